"""The wheel alone, outside of the checkout, trains, evaluates and exports.

The sdist is built of this checkout, the wheel of the sdist, as a packager would. The wheel goes
into a fresh environment, which borrows TensorFlow and the like from this one.
"""

import importlib.metadata
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile

import pytest
from absl.testing import absltest
from packaging.requirements import Requirement

from csml_tf import cli
from csml_tf.export import model_card
from tests.training import tiny_run

ROOT = pathlib.Path(__file__).parents[2]
# What the sdist has to hold of each folder that lies beside the package.
NOT_COPIED = (".*", "__pycache__", "runs", "build", "dist", "*.egg-info")
BESIDE = ("docs", "gin_configs", "scripts", "tests", "tools")
KNOBS = {"EPOCHS": 1, "WIDTH": 1}
IN_PYTHON = """
import csml_tf
import numpy as np
import pytest
print(csml_tf.__file__)
encoder = csml_tf.pretrain("digits", "quickstart", "runs/python", epochs=1, width=1)
images = np.random.default_rng(0).integers(0, 256, [5, 16, 16, 3]).astype("uint8")
print(csml_tf.evaluate("runs/python", "digits", k=5).headline())
paths, features = csml_tf.extract("runs/python", images)
print(encoder.output_shape, paths, features.shape)
try:
    csml_tf.pretrain("digits", "quickstart", epocs=1)
except csml_tf.InputError as error:
    print(error)
"""


def borrowed_folders():
    """The folders of this environment's packages; an editable install of ours is in none."""
    return [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]


class WheelTest(absltest.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = tiny_run.make_temp_dir(cls.addClassCleanup)
        # Of a copy: a build leaves folders where it runs, and another one may run beside this.
        copy = cls.folder / "copy"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*NOT_COPIED))
        cls.run_in(copy, sys.executable, "setup.py", "-q", "sdist", f"--dist-dir={cls.folder}")
        (cls.sdist,) = cls.folder.glob("*.tar.gz")
        cls.run_here(
            *("-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index"),
            *("--wheel-dir", str(cls.folder), str(cls.sdist)),
        )
        (cls.wheel,) = cls.folder.glob("*.whl")
        venv.create(cls.folder / "venv", with_pip=False)
        cls.python = cls.folder / "venv" / "bin" / "python"
        cls.run_here(
            *("-m", "pip", "-q", "--disable-pip-version-check", f"--python={cls.python}"),
            *("install", "--no-deps", "--no-compile", "--no-index", str(cls.wheel)),
        )
        (packages,) = (cls.folder / "venv").glob("lib/python*/site-packages")
        (packages / "borrowed.pth").write_text("\n".join(borrowed_folders()))
        cls.empty = cls.folder / "empty"
        cls.empty.mkdir()

    @classmethod
    def run_here(cls, *arguments):
        cls.run_in(ROOT, sys.executable, *arguments)

    @classmethod
    def run_in(cls, folder, *command):
        """-> what the command prints."""
        hidden = ("PYTHONPATH", "PYTHONHOME")
        environment = {name: value for name, value in os.environ.items() if name not in hidden}
        process = subprocess.run(
            [str(word) for word in command],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert process.returncode == 0, f"{command}:\n{process.stdout}\n{process.stderr}"
        return process.stdout

    def csml_tf(self, *words):
        return self.run_in(self.empty, self.python.with_name("csml-tf"), *words)

    def test_command(self):
        self.assertIn("csml-tf VERB", self.csml_tf("--help"))
        bindings = [f"--gin_bindings={name} = {value}" for name, value in KNOBS.items()]
        trained = self.csml_tf("train", "--gin_file=quickstart.gin", *bindings)
        self.assertStartsWith(trained, "runs/quickstart: 1 epoch, loss ")
        card = model_card.read(self.empty / "runs/quickstart/saved_model")
        self.assertStartsWith(card["command"], "csml-tf train --gin_file=quickstart.gin")
        self.assertIsNone(card.get("commit"))
        model = "--model=runs/quickstart"
        measured = self.csml_tf("evaluate", "--protocol=knn", model, "--dataset=digits", "--k=5")
        self.assertIn("knn top1 ", measured)
        exported = self.csml_tf("export", "--model_dir=runs/quickstart", "--output=exported")
        self.assertStartsWith(exported, "exported: quickstart as saved_model in float32")
        self.assertTrue((self.empty / "exported" / "saved_model.pb").exists())

    @pytest.mark.slow
    def test_python(self):
        printed = self.run_in(self.empty, self.python, "-c", IN_PYTHON).splitlines()
        place, *log, shapes, error = printed
        self.assertStartsWith(place, str(self.folder / "venv"))
        # In a script that has set up no log, an epoch shows.
        losses = [line for line in log if line.startswith("epoch 1/1: loss ")]
        self.assertLen(losses, 1, printed)
        (measured,) = [line for line in log if line.startswith("knn")]
        self.assertRegex(measured, r"^knn top1 [\d.]+%, near .* \(k=5, ")
        self.assertEqual(shapes, "(None, 8) None (5, 8)")
        self.assertStartsWith(
            error, "The recipe has no knob 'EPOCS' (did you mean 'EPOCHS'?): its knobs are "
        )

    def test_contents(self):
        in_wheel = {*zipfile.ZipFile(self.wheel).namelist()}
        for recipe in (ROOT / "gin_configs").rglob("*.gin"):
            name = recipe.relative_to(ROOT / "gin_configs").as_posix()
            self.assertIn(f"csml_tf/gin_configs/{name}", in_wheel)
        self.assertContainsSubset({f"csml_tf/verbs/{verb}.py" for verb in cli.VERBS}, in_wheel)
        self.assertIn("csml_tf/py.typed", in_wheel)
        tops = {name.partition("/")[0] for name in in_wheel}
        self.assertLen(tops, 2, tops)  # The package and its metadata.
        with tarfile.open(self.sdist) as archive:
            in_sdist = {name.partition("/")[2] for name in archive.getnames()}
        for folder in BESIDE:
            for path in (ROOT / folder).rglob("*.*"):
                if path.is_file() and path.suffix != ".pyc":
                    self.assertIn(path.relative_to(ROOT).as_posix(), in_sdist)
        files = {"README.md", "LICENSE", "Makefile", "constraints.txt", "pyproject.toml"}
        self.assertContainsSubset(files, in_sdist)

    def test_metadata(self):
        (packages,) = (self.folder / "venv").glob("lib/python*/site-packages")
        (found,) = importlib.metadata.distributions(name="csml_tf", path=[str(packages)])
        self.assertStartsWith(found.read_text("METADATA").partition("\n\n")[2], "# csml_tf")
        self.assertEqual(found.metadata["Description-Content-Type"], "text/markdown")
        self.assertEqual(found.metadata["License-Expression"], "Apache-2.0")
        # What an install asks for and what later installs keep to are the same versions.
        kept = {}
        for line in (ROOT / "constraints.txt").read_text().splitlines():
            if line and not line.startswith("#"):
                constraint = Requirement(line)
                kept[constraint.name, str(constraint.marker)] = constraint.specifier
        asked = [Requirement(line) for line in found.requires]
        shared = [
            one for one in asked if one.extras == set() and ((one.name, str(one.marker)) in kept)
        ]
        self.assertGreaterEqual(len(shared), 8)
        for one in shared:
            self.assertEqual(one.specifier, kept[one.name, str(one.marker)], one.name)


if __name__ == "__main__":
    absltest.main()
