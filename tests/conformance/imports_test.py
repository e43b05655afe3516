"""The layout table of CONTRIBUTING.md, as a test: which module may import which."""

import ast
import pathlib

from absl.testing import absltest, parameterized

ROOT = pathlib.Path(__file__).parents[2]

# A module may import rows of a smaller number and its own row, never a larger one. A package
# stands for all modules in it.
ROWS = {
    "csml_tf.choices": 0,
    "csml_tf.errors": 0,
    "csml_tf.amounts": 0,
    "csml_tf.code_version": 0,
    "csml_tf.environment": 0,
    "csml_tf.progress": 0,
    "csml_tf.quiet": 0,
    "csml_tf.losses": 0,
    "csml_tf.draws": 0,
    "csml_tf.similarity": 0,
    "csml_tf.approximate_search": 0,
    "csml_tf.whole_files": 0,
    "csml_tf.places": 0,
    "csml_tf.url_path": 0,
    "csml_tf.uploads": 0,
    "csml_tf.fetched": 0,
    "csml_tf.leases": 0,
    "csml_tf.setting_rules": 0,
    "csml_tf.value_rules": 0,
    "csml_tf.augment": 0,
    "csml_tf.models": 1,
    "csml_tf.data": 1,
    "csml_tf.methods": 2,
    "csml_tf.features": 2,
    "csml_tf.mining": 2,
    "csml_tf.training": 3,
    "csml_tf.evaluation": 4,
    "csml_tf.export": 4,
    "csml_tf.ablation": 5,
    "csml_tf.benchmarks": 5,
    "csml_tf.extraction": 5,
    "csml_tf.conversion": 5,
    "csml_tf.zoo": 5,
    "csml_tf.reports": 5,
    "csml_tf": 6,  # The public names in csml_tf/__init__.py.
    "csml_tf.command": 6,
    "csml_tf.recipes": 6,
    "csml_tf.recipe_files": 6,
    "csml_tf.run_cards": 6,
    "csml_tf.knob_rules": 6,
    "csml_tf.runs": 6,
    "csml_tf.unfinished": 6,
    "csml_tf.api": 6,
    "csml_tf.verbs": 7,
    "csml_tf.cli": 7,
    "tools": 7,
    "tests": 8,
}
# (importer, imported): what the rows would let pass.
STRANGERS = {
    ("csml_tf.models", "csml_tf.data"),
    ("csml_tf.data", "csml_tf.models"),
    ("csml_tf", "csml_tf.recipes"),  # Else `import csml_tf` would need gin.
    ("csml_tf.recipes", "csml_tf"),
    ("csml_tf.zoo", "csml_tf.conversion"),  # Conversion opens what the zoo finds.
}
# Who alone may import a library, by prefix. Tests may import what they test with.
RESERVED = {
    "gin": "csml_tf.recipes",
    "absl.flags": ("csml_tf.verbs", "csml_tf.command"),
    "matplotlib": "csml_tf.reports",  # Installed with the extra [reports] only.
    "torch": "csml_tf.conversion",  # Installed with the extra [torch] only.
    "tf2onnx": "csml_tf.export",  # Installed with the extra [onnx] only.
    "onnxruntime": "csml_tf.export",
    "faiss": "csml_tf.approximate_search",  # Installed with the extra [faiss] only.
}
# Under TensorFlow 2.16 and later these are Keras 3, or not the Keras that TensorFlow uses.
KERAS = ("keras", "tf_keras", "tensorflow.keras")


def module_name(path):
    """`csml_tf/data/__init__.py` -> `csml_tf.data`."""
    parts = pathlib.PurePosixPath(path).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def row_name(name):
    """The table's entry for a module or for a name in it; None when it has none."""
    if name == "csml_tf.__version__":
        return "csml_tf.environment"  # A string that everyone may read.
    top, _, rest = name.partition(".")
    if top != "csml_tf":
        return top if top in ROWS else None
    second = f"csml_tf.{rest.partition('.')[0]}" if rest else "csml_tf"
    return second if second in ROWS else None


def is_in(name, package):
    return name == package or name.startswith(package + ".")


def imported_names(path, source):
    """Yields (line, full name) of all imports, those inside functions too.

    `from a import b` gives `a.b`: whether `b` is a module or a name in one is not asked.
    """
    package = list(pathlib.PurePosixPath(path).parent.parts)
    for node in ast.walk(ast.parse(source, str(path))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            parents = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*parents, *filter(None, [node.module])])
            for alias in node.names:
                yield node.lineno, f"{module}.{alias.name}"


def violations(path, source):
    """The imports in one file that break the table, a sentence each.

    Args:
        path: the file's path from the root of the project, with forward slashes.
        source: its text.
    """
    importer = row_name(module_name(path))
    if importer is None:
        return [f"{path} is in no row: add it to ROWS in this file and to CONTRIBUTING.md."]
    found = []
    for line, name in imported_names(path, source):
        where = f"{path}:{line} imports {name}"
        if any(is_in(name, package) for package in KERAS):
            found.append(f"{where}: write tf.keras.")
        for library, owners in RESERVED.items():
            owners = (owners,) if isinstance(owners, str) else owners
            if is_in(name, library) and importer not in (*owners, "tests"):
                found.append(f"{where}: only {' and '.join(owners)} may import {library}.")
        imported = row_name(name)
        if is_in(name, "csml_tf") and imported is None:
            imported = "csml_tf"  # `from csml_tf import load_model`: a public name.
        if imported is None:
            continue
        if imported == "tools":
            found.append(f"{where}: nobody imports a tool; move the code to csml_tf/.")
        elif ROWS[imported] > ROWS[importer]:
            found.append(
                f"{where}: {importer} is in row {ROWS[importer]}, "
                f"{imported} below it in row {ROWS[imported]}."
            )
        elif (importer, imported) in STRANGERS:
            found.append(f"{where}: {importer} never imports {imported}.")
    return found


def project_files():
    for folder in ("csml_tf", "tools", "tests"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")


class ProjectTest(absltest.TestCase):
    def test_every_file_keeps_to_the_table(self):
        found = [line for path, source in project_files() for line in violations(path, source)]
        self.assertEmpty(found, "\n" + "\n".join(found))

    def test_one_module_imports_tensorflow_addons(self):
        # It cannot be imported on Python 3.12 and later: one module says so and what to do.
        importers = {
            path
            for path, source in project_files()
            for _, name in imported_names(path, source)
            if is_in(name, "tensorflow_addons") and not path.startswith("tests/")
        }
        self.assertEqual(importers, {"csml_tf/training/addons.py"})

    def test_sees_the_project(self):
        self.assertIn("csml_tf/environment.py", dict(project_files()))


class ViolationsTest(parameterized.TestCase):
    @parameterized.parameters(
        ("csml_tf/data/pipeline.py", "from csml_tf.augment import cutmix"),
        ("csml_tf/data/pipeline.py", "from csml_tf import losses, similarity"),
        ("csml_tf/data/pipeline.py", "from csml_tf.data.sources import base"),
        ("csml_tf/data/pipeline.py", "from . import neighbor_table"),
        ("csml_tf/data/sources/memory.py", "from .. import neighbor_table"),
        ("csml_tf/data/sources/memory.py", "from ...augment import geometric"),
        ("csml_tf/evaluation/knn.py", "import csml_tf.models.encoder"),
        ("csml_tf/zoo/registry.py", "from csml_tf import __version__"),
        ("csml_tf/conversion/convert.py", "from csml_tf.zoo import registry\nimport torch"),
        ("csml_tf/__init__.py", "from csml_tf import environment\nfrom csml_tf.zoo import load"),
        ("csml_tf/recipes.py", "import gin\nfrom csml_tf.training import pretrain"),
        ("csml_tf/losses.py", "import tensorflow as tf\nfrom absl import logging"),
        ("csml_tf/reports/plots.py", "from matplotlib import pyplot"),
        ("csml_tf/verbs/train.py", "from absl import flags\nfrom csml_tf import recipes, runs"),
        ("tests/recipes_test.py", "import gin, csml_tf\nfrom csml_tf import recipes"),
    )
    def test_accepts(self, path, source):
        self.assertEqual(violations(path, source), [])

    @parameterized.parameters(
        ("csml_tf/losses.py", "from csml_tf.models import encoder", "row 0, csml_tf.models below"),
        ("csml_tf/losses.py", "from csml_tf import mining", "csml_tf.mining below it in row 2"),
        ("csml_tf/losses.py", "import csml_tf.zoo.registry", "below it in row 5"),
        ("csml_tf/losses.py", "def f():\n    from csml_tf import zoo", "losses.py:2 imports"),
        ("csml_tf/augment/cutmix.py", "from ..data import pipeline", "csml_tf.data below"),
        ("csml_tf/augment/cutmix.py", "from .. import features", "csml_tf.features below"),
        ("csml_tf/training/pretrain.py", "from csml_tf.evaluation import knn", "below it in row 4"),
        ("csml_tf/zoo/registry.py", "from csml_tf import recipes", "below it in row 6"),
        ("csml_tf/zoo/registry.py", "from csml_tf import load_model", "csml_tf below it"),
        ("csml_tf/zoo/registry.py", "import csml_tf", "csml_tf below it in row 6"),
        ("csml_tf/data/pipeline.py", "from csml_tf import models", "never imports csml_tf.models"),
        ("csml_tf/zoo/registry.py", "from csml_tf import conversion", "never imports csml_tf.con"),
        ("csml_tf/models/encoder.py", "from csml_tf import data", "never imports csml_tf.data"),
        ("csml_tf/__init__.py", "from csml_tf import recipes", "never imports csml_tf.recipes"),
        ("csml_tf/recipes.py", "from tools import train", "nobody imports a tool"),
        ("tools/train.py", "from tools import evaluate", "nobody imports a tool"),
        ("tests/tools_test.py", "import tools.train", "nobody imports a tool"),
        ("csml_tf/training/pretrain.py", "import gin", "only csml_tf.recipes may import gin"),
        ("tools/train.py", "from gin import config", "only csml_tf.recipes may import gin"),
        (
            "csml_tf/recipes.py",
            "from absl import flags",
            "may import absl.flags",
        ),
        ("csml_tf/recipes.py", "import absl.flags", "may import absl.flags"),
        ("csml_tf/data/pipeline.py", "import matplotlib.pyplot", "only csml_tf.reports"),
        ("csml_tf/zoo/registry.py", "import torch", "only csml_tf.conversion may import torch"),
        ("csml_tf/methods/csml.py", "import keras", "write tf.keras"),
        ("csml_tf/methods/csml.py", "from keras.layers import Dense", "write tf.keras"),
        ("csml_tf/methods/csml.py", "from tensorflow import keras", "write tf.keras"),
        ("csml_tf/methods/csml.py", "from tensorflow.keras import layers", "write tf.keras"),
        ("tests/models/csml_test.py", "import tf_keras", "write tf.keras"),
        ("csml_tf/utils.py", "", "csml_tf/utils.py is in no row: add it to ROWS"),
        ("csml_tf/helpers/__init__.py", "", "is in no row"),
    )
    def test_rejects(self, path, source, message):
        found = violations(path, source)
        self.assertLen(found, 1)
        self.assertIn(message, found[0])


if __name__ == "__main__":
    absltest.main()
