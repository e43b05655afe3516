import hashlib
import pathlib
import subprocess
import sys
from unittest import mock

import numpy as np
import tensorflow as tf

import csml_tf
from csml_tf.errors import InputError
from csml_tf.export import model_card, saved_model
from csml_tf.zoo import cache, registry
from csml_tf.zoo.entry import Archive, Entry
from tests.training import tiny_run
from tests.zoo import archives

ROOT = pathlib.Path(__file__).parents[2]


class RegistryTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.run_dir = tiny_run.make_temp_dir(self.addCleanup)
        self.model_dir = self.run_dir / "saved_model"

    def export(self):
        saved_model.export(tiny_run.make_encoder(), self.model_dir, (0.5,) * 3, (0.5,) * 3, {})

    def test_public_names(self):
        self.assertIs(csml_tf.load_model, registry.load_model)
        with_archive = [entry.id for entry in registry.ENTRIES if entry.archive]
        self.assertEqual(csml_tf.list_models(), tuple(with_archive))
        self.assertRegex(csml_tf.__version__, r"^\d+\.\d+\.\d+")

    def test_finds_and_loads(self):
        self.export()
        for given in (self.run_dir, str(self.model_dir)):
            self.assertEqual(registry.find_saved_model(given), self.model_dir)
        model = csml_tf.load_model(str(self.run_dir))
        images = np.zeros([2, 40, 32, 3], "float32")
        self.assertEqual(model(images).shape, [2, 4])
        self.assertNotEmpty(model.trainable_variables)

    def test_unfinished_run(self):
        (self.run_dir / "checkpoints").mkdir()
        with self.assertRaisesRegex(InputError, "no saved_model/ yet: let csml-tf train finish"):
            csml_tf.load_model(self.run_dir)

    def test_no_such_model(self):
        with self.assertRaisesRegex(InputError, "no model 'r51'.*: give a run directory"):
            csml_tf.load_model("r51")

    def publish(self):
        """A zoo of one packaged encoder, which is in `model_dir` too, and one recipe."""
        self.export()
        files = [path for path in self.model_dir.rglob("*") if path.is_file()]
        packed = archives.make_zip(
            [(path.relative_to(self.model_dir).as_posix(), path.read_bytes()) for path in files]
        )
        (self.run_dir / "tiny.zip").write_bytes(packed)
        sha256 = hashlib.sha256(packed).hexdigest()
        archive = Archive("tiny.zip", sha256, len(packed), "c0ffee", "2 CPU cores", 1.0, "MIT")
        entries = (
            Entry("tiny", "CsMl", "four layers", "digits", "none", archive),
            Entry("r50", "CsMl", "ResNet-50", "ImageNet-1k", "none"),
        )
        home = {"CSML_TF_HOME": str(self.run_dir / "home")}
        for patch in (
            mock.patch.object(registry, "ENTRIES", entries),
            mock.patch.object(cache, "_PACKAGED", self.run_dir),
            mock.patch.dict("os.environ", home),
        ):
            patch.start()
            self.addCleanup(patch.stop)

    def test_by_id(self):
        self.publish()
        self.assertEqual(csml_tf.list_models(), ("tiny",))
        images = np.random.default_rng(0).uniform(size=[2, 40, 32, 3]).astype("float32")
        expected = csml_tf.load_model(self.model_dir)(images)
        self.assertAllEqual(csml_tf.load_model("tiny")(images), expected)
        self.assertEqual(registry.find_saved_model("tiny").parents[1], self.run_dir / "home")
        with self.assertRaisesRegex(InputError, r"no model 'tny' \(did you mean 'tiny'\?\): "):
            csml_tf.load_model("tny")
        with self.assertRaisesRegex(InputError, "r50 is a recipe that is not .*gin_file=r50.gin"):
            csml_tf.load_model("r50")

    def test_what_is_installed(self):
        folder = self.run_dir / "build"
        subprocess.run(
            [sys.executable, "setup.py", "-q", "build_py", f"--build-lib={folder}"],
            cwd=ROOT,
            check=True,
            capture_output=True,
        )
        zoo = folder / "csml_tf" / "zoo"
        self.assertTrue((zoo / "results.json").exists())
        self.assertTrue((zoo / "encoders" / "README.md").exists())
        for entry in registry.ENTRIES:
            if entry.archive is not None and not entry.archive.is_remote:
                content = (zoo / "encoders" / entry.archive.source).read_bytes()
                self.assertLen(content, entry.archive.num_bytes)
                self.assertEqual(hashlib.sha256(content).hexdigest(), entry.archive.sha256)

    def test_packaged_encoders(self):
        images = np.random.default_rng(0).uniform(size=[2, 32, 40, 3]).astype("float32")
        with mock.patch.dict("os.environ", {"CSML_TF_HOME": str(self.run_dir / "home")}):
            for entry in registry.ENTRIES:
                if entry.archive is not None and not entry.archive.is_remote:
                    card = model_card.read(registry.find_saved_model(entry.id))
                    self.assertEqual(card["id"], entry.id)
                    trained_by = card.get("trained_by", card["commit"])
                    self.assertIn(entry.archive.commit, trained_by)
                    for binding in entry.archive.bindings:
                        knob, value = binding.split(" = ")
                        self.assertEqual(str(card["recipe"][knob]), value)
                    features = csml_tf.load_model(entry.id)(images)
                    self.assertEqual(features.shape, [2, card["feature_dim"]])
                    # Moving statistics that fit the weights: nothing explodes or dies.
                    self.assertBetween(np.linalg.norm(features, axis=1).min(), 0.1, 100.0)

    def test_damaged_model(self):
        self.model_dir.mkdir()
        (self.model_dir / "saved_model.pb").write_bytes(b"no protocol buffer")
        with self.assertRaisesRegex(InputError, "cannot be read .*export it again"):
            csml_tf.load_model(self.run_dir)


if __name__ == "__main__":
    tf.test.main()
