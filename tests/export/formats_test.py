import io
import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from importlib import metadata

import h5py
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from csml_tf.errors import InputError
from csml_tf.export import formats, model_card, saved_model, tflite
from tests.data.sources import image_files
from tests.training import tiny_run

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
CARD = {"id": "tiny", "image_size": 32, "resize_size": 36, "metrics": []}
_EXPORTS = {
    "saved32": ("saved_model", "float32", {}),
    "saved16": ("saved_model", "float16", {}),
    "keras32": ("keras", "float32", {"licence": "MIT"}),
    "keras16": ("keras", "float16", {}),
    "lite32": ("tflite", "float32", {"image_size": 40}),
    "lite16": ("tflite", "float16", {}),
    "lite8": ("tflite", "int8", {}),
    "hub32": ("hub", "float32", {"licence": "Apache-2.0"}),
}
STRANGER = """
import sys
sys.modules["csml_tf"] = None  # An import of it fails.
import numpy as np
import tensorflow as tf
features = {}
for name in NAMES:
    model = tf.keras.models.load_model(name, compile=False)
    key = name.split("/")[0]
    images = np.load("images.npy")
    features[key] = model(images)
    features[key + "_training"] = model(images, training=True)
    features[key + "_dtypes"] = [w.dtype.name for w in model.trainable_weights]
np.savez("features.npz", **features)
"""
# Of a user who has neither this package nor tf-keras: Keras 2.15, or Keras 3 on TensorFlow.
PLAIN = """
import sys
sys.modules["csml_tf"] = sys.modules["tf_keras"] = None
import keras
import numpy as np
features = {}
for name, code in LINES.items():
    scope = {"images": np.load("images.npy")}
    exec(code, scope)
    features[name] = scope["features"]
np.savez("plain.npz", **features)
"""


class FormatsTest(tf.test.TestCase, parameterized.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        tf.keras.utils.set_random_seed(0)
        cls.folder = tiny_run.make_temp_dir(cls.addClassCleanup)
        encoder = tiny_run.make_encoder()
        rng = np.random.default_rng(0)
        for variable in encoder.variables:
            variable.assign(variable + rng.uniform(0.0, 0.3, variable.shape))
        saved_model.export(encoder, cls.folder / "model", MEAN, STD, CARD, {"queue": np.ones(3)})
        cls.model = saved_model.load(cls.folder / "model")
        cls.images = rng.uniform(size=[8, 32, 32, 3]).astype(np.float32)
        cls.features = cls.model(cls.images).numpy()
        # The reference of float16: NumPy's rounding of the kernels, and nothing else.
        cls.rounded = saved_model.load(cls.folder / "model")
        cls.rounded.set_weights(
            [w.astype("float16") if w.ndim > 1 else w for w in cls.rounded.get_weights()]
        )
        cls.rounded_features = cls.rounded(cls.images).numpy()
        image_files.write_pngs(cls.folder / "images", 20)
        cls.lines = {}

    @classmethod
    def export(cls, name, *arguments, **options):
        return formats.export(cls.folder / "model", cls.folder / name, *arguments, **options)

    @classmethod
    def made(cls, name):
        """The folder of one of `_EXPORTS`, made when it is first asked for."""
        if name not in cls.lines:
            format_, precision, options = _EXPORTS[name]
            if precision == "int8":
                options = {"dataset": f"folder:{cls.folder}/images"}
            cls.lines[name] = cls.export(name, format_, precision, **options)
        return cls.folder / name

    def test_opens_without_this_package(self):
        names = ["saved32", "saved16", "keras32/encoder.keras", "keras16/encoder.keras"]
        for name in names:
            self.made(name.split("/")[0])
        np.save(self.folder / "images.npy", self.images)
        subprocess.run(
            [sys.executable, "-c", STRANGER.replace("NAMES", repr(names))],
            cwd=self.folder,
            check=True,
        )
        found = np.load(self.folder / "features.npz")
        for name in ("saved32", "keras32"):
            self.assertAllClose(found[name], self.features, rtol=1e-5)
        for name in ("saved16", "keras16"):
            self.assertAllClose(found[name], self.rounded_features, rtol=1e-5)
        self.assertNotAllClose(self.features, self.rounded_features, rtol=1e-5)
        # A Keras file is float32 once it is loaded; float16 variables must not be trained.
        for name in ("saved32", "keras32", "keras16"):
            self.assertEqual({*found[f"{name}_dtypes"]}, {"float32"})
            self.assertNotAllClose(found[f"{name}_training"], found[name])
        self.assertEmpty(found["saved16_dtypes"])
        self.assertAllEqual(found["saved16_training"], found["saved16"])

    def blocks(self, name):
        """The blocks of Python in the card of one of `_EXPORTS`."""
        text = (self.made(name) / "README.md").read_text()
        blocks = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        return [block.replace("DIR", str(self.folder / name)) for block in blocks]

    @pytest.mark.slow
    def test_cards_tell_how_to_open_without_tf_keras(self):
        lines = {name: self.blocks(name)[0] for name in ("keras32", "keras16")}
        if metadata.version("keras") >= "3":
            lines.update({name: self.blocks(name)[1] for name in ("saved32", "saved16")})
        np.save(self.folder / "images.npy", self.images)
        environment = {k: v for k, v in os.environ.items() if k != "TF_USE_LEGACY_KERAS"}
        subprocess.run(
            [sys.executable, "-c", PLAIN.replace("LINES", repr(lines))],
            cwd=self.folder,
            env=environment,
            check=True,
        )
        found = np.load(self.folder / "plain.npz")
        for name in lines:
            expected = self.features if name.endswith("32") else self.rounded_features
            self.assertAllClose(found[name], expected, rtol=1e-5)

    def test_config_of_the_keras_file(self):
        with zipfile.ZipFile(self.made("keras32") / "encoder.keras") as archive:
            text = archive.read("config.json").decode()
        modules = {*re.findall(r'"module": "([^"]*)"', text)}
        self.assertEqual(modules, {"keras", "keras.layers", "keras.initializers"})
        self.assertNotIn("optional", text)
        self.assertTrue(model_card.read(self.folder / "keras32")["opens_in_keras_3"])

    def test_hub(self):
        folder = self.made("hub32")
        names = ["README.md", "csml_tf.json", "model.tar.gz"]
        self.assertEqual(sorted(path.name for path in folder.iterdir()), names)
        self.assertStartsWith((folder / "README.md").read_text(), "---\nlicense: apache-2.0\n")
        inner = tiny_run.make_temp_dir(self.addCleanup)
        with tarfile.open(folder / "model.tar.gz") as archive:
            self.assertIn("saved_model.pb", archive.getnames())
            self.assertEqual({(m.uid, m.uname, m.mtime) for m in archive}, {(0, "", 0)})
            archive.extractall(inner, filter="data")
        self.assertAllClose(saved_model.load(inner)(self.images), self.features, rtol=1e-5)
        self.assertEqual(model_card.read(inner)["id"], "tiny")
        self.assertEqual(saved_model.read_training_state(inner), {})

    @parameterized.parameters("lite32", "lite16", "lite8")
    def test_tflite_takes_any_batch(self, name):
        size = model_card.read(self.made(name))["image_size"]
        path = str(self.folder / name / "encoder.tflite")
        images = np.random.default_rng(2).uniform(size=[8, size, size, 3]).astype(np.float32)
        found = tf.lite.Interpreter(path).get_signature_runner()(images=images)["features"]
        one_by_one = tflite.run((self.folder / name / "encoder.tflite").read_bytes(), images)
        self.assertAllClose(found, one_by_one, rtol=1e-5, atol=1e-5)

    @parameterized.parameters(("lite32", 40, 1e-4), ("lite16", 32, 2e-3))
    def test_tflite(self, name, size, tolerance):
        content = (self.made(name) / "encoder.tflite").read_bytes()
        (details,) = tf.lite.Interpreter(model_content=content).get_input_details()
        self.assertAllEqual(details["shape"], [1, size, size, 3])
        self.assertEqual(model_card.read(self.folder / name)["image_size"], size)
        images = np.random.default_rng(1).uniform(size=[2, size, size, 3]).astype(np.float32)
        found = tflite.run(content, images)
        self.assertAllClose(found, self.model(images), rtol=tolerance, atol=tolerance)

    def test_tflite_int8(self):
        content = (self.made("lite8") / "encoder.tflite").read_bytes()
        found = tflite.run(content, self.images)
        self.assertEqual((found.dtype, found.shape), (np.float32, self.features.shape))
        cosines = np.sum(found * self.features, axis=1) / (
            np.linalg.norm(found, axis=1) * np.linalg.norm(self.features, axis=1)
        )
        self.assertAllGreater(cosines, 0.98)
        details = tf.lite.Interpreter(model_content=content).get_tensor_details()
        kinds = [tensor["dtype"] for tensor in details if len(tensor["shape"]) == 4]
        # All maps and kernels; the images alone come in float32.
        self.assertEqual(kinds.count(np.float32), 1)
        self.assertGreater(kinds.count(np.int8), 7)

    def test_kernels_are_stored_in_half_precision(self):
        reader = tf.train.load_checkpoint(str(self.made("saved16") / "variables" / "variables"))
        shapes = reader.get_variable_to_shape_map()
        stored = {n: reader.get_variable_to_dtype_map()[n] for n, s in shapes.items() if len(s) > 1}
        self.assertLen(stored, 5)  # Four convolutions and the projection head.
        self.assertEqual({*stored.values()}, {tf.float16})
        archive = zipfile.ZipFile(self.made("keras16") / "encoder.keras")
        kinds = {}
        with archive, h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as file:
            file.visititems(lambda name, item: kinds.update({name: getattr(item, "dtype", None)}))
            ranks = {name: file[name].ndim for name, kind in kinds.items() if kind is not None}
        self.assertEqual([kinds[name] for name, rank in ranks.items() if rank > 1], ["float16"] * 4)
        self.assertEqual({kinds[name] for name, r in ranks.items() if r == 1}, {np.dtype("f4")})
        content = (self.made("lite16") / "encoder.tflite").read_bytes()
        details = tf.lite.Interpreter(model_content=content).get_tensor_details()
        kernels = [tensor["dtype"] for tensor in details if len(tensor["shape"]) == 4]
        self.assertEqual(kernels.count(np.float16), 4)

    def test_signatures_of_half_precision(self):
        signatures = tf.saved_model.load(str(self.made("saved16"))).signatures
        names = {"serving_default", "serving_uint8", "embed", "endpoints"}
        self.assertEqual({*signatures}, names)
        images = tf.constant(self.images)
        embedding = signatures["embed"](images=images)["embedding"]
        self.assertAllClose(embedding, self.rounded.projection_head(self.rounded_features), 1e-4)
        maps = signatures["endpoints"](images=images)
        expected = saved_model.make_endpoints_model(self.rounded)(self.images)
        for name, tensor in expected.items():
            self.assertAllClose(maps[name], tensor, rtol=1e-4, atol=1e-5)

    def test_saved_again_with_all_that_was_there(self):
        self.assertAllEqual(
            saved_model.read_training_state(self.made("saved32"))["queue"], np.ones(3)
        )
        self.assertIn("differ by at most 0,", self.lines["saved32"])
        # What was exported can be exported from.
        again = saved_model.load(self.folder / "saved32")
        self.assertAllClose(again(self.images), self.features, rtol=1e-5)
        self.assertAllEqual(
            again.projection_head(self.features), self.model.projection_head(self.features)
        )

    def test_card(self):
        card = model_card.read(self.made("lite8"))
        expected = {**CARD, "format": "tflite", "precision": "int8", "licence": "not stated"}
        self.assertContainsSubset(expected, card)
        self.assertEqual(card["feature_dim"], 4)
        self.assertEqual([f["path"] for f in card["files"]], ["encoder.tflite"])
        self.assertStartsWith(self.lines["lite8"], f"{self.folder}/lite8: tiny as tflite in int8")
        self.assertIn("4 images of folder:", self.lines["lite8"])
        self.made("keras32")
        self.assertIn("64 images of random pixels, 32 px", self.lines["keras32"])
        self.assertEqual(model_card.read(self.folder / "keras32")["licence"], "MIT")
        text = (self.folder / "lite8" / "README.md").read_text()
        self.assertIn("encoder.tflite", text)
        self.assertIn("32 × 32 px; any batch", text)

    def write_result(self, encoder_id, protocols=("knn",)):
        path = self.folder / f"{encoder_id}.json"
        results = [self.make_result(encoder_id, protocol) for protocol in protocols]
        path.write_text(json.dumps(results if len(results) > 1 else results[0]))
        return path

    @staticmethod
    def make_result(encoder_id, protocol):
        return {
            "protocol": protocol,
            "encoder": {"id": encoder_id},
            "result": {"top1": 0.5},
            "settings": {"k": [20]},
            "data": {"train": {"name": "a"}, "test": {"name": "b"}},
        }

    def test_results(self):
        self.export("measured", "keras", results=[self.write_result("tiny")])
        (metric,) = model_card.read(self.folder / "measured")["metrics"]
        expected = {"name": "knn top-1", "value": 0.5, "protocol": "k=[20]; train: a, test: b"}
        self.assertEqual(metric, expected)

    def test_several_results_in_one_file(self):
        path = self.write_result("tiny", ("knn", "linear"))
        self.export("measured", "keras", results=[path])
        metrics = model_card.read(self.folder / "measured")["metrics"]
        self.assertEqual([m["name"] for m in metrics], ["knn top-1", "linear top-1"])

    def test_refuses_results(self):
        with self.assertRaisesRegex(InputError, "measured on huge, and this model is tiny"):
            self.export("no", results=[self.write_result("huge")])
        for path in ("missing.json", "model/assets.extra/csml_tf.json"):
            with self.assertRaisesRegex(InputError, "is no result with a top-1"):
                self.export("no", results=[self.folder / path])

    @parameterized.parameters(
        ("saved_model", "int8", "float32, float16"),
        ("keras", "int8", "float32, float16"),
    )
    def test_refuses_precision(self, format_, precision, known):
        message = f"--precision={precision} does not fit --format={format_}: .* {known}"
        with self.assertRaisesRegex(InputError, message):
            self.export("no", format_, precision)

    def test_int8_wants_images(self):
        with self.assertRaisesRegex(InputError, "name some with --dataset"):
            self.export("no", "tflite", "int8")

    def test_refuses_rounded_weights(self):
        with self.assertRaisesRegex(InputError, "rounded weights .float16.: export from"):
            formats.export(self.made("saved16"), self.folder / "no")

    def test_refuses_another_kind_of_saved_model(self):
        dense = tf.keras.Sequential([tf.keras.Input([8]), tf.keras.layers.Dense(2)])
        dense.save(self.folder / "foreign", save_format="tf")
        tf.saved_model.save(dense, str(self.folder / "plain"))
        for name, message in (
            ("foreign", "not one that this package wrote"),
            ("plain", "cannot be read|not one that this package wrote"),
        ):
            with self.assertRaisesRegex(InputError, message):
                formats.export(self.folder / name, self.folder / "no")

    def test_refuses_to_replace(self):
        for name, message in (
            ("images", "no older export"),
            ("images/000.png", "no older export"),
            ("model", "holds the model to be exported"),
            (".", "holds the model to be exported"),
            ("images/000.png/no", "cannot be made"),
        ):
            with self.assertRaisesRegex(InputError, message):
                self.export(name)
        self.assertLen([*(self.folder / "images").iterdir()], 20)

    def test_refuses_image_size(self):
        with self.assertRaisesRegex(InputError, "at least 32 px, got 31"):
            self.export("no", image_size=31)


if __name__ == "__main__":
    tf.test.main()
