"""Exports in the libraries that they are for, by the lines of their cards.

The libraries do not go together with TensorFlow 2.15. They are in an environment of their own,
`.venv-bridges`, or that of the Python that CSML_TF_BRIDGES names; CONTRIBUTING.md says how it is
made.
"""

import os
import pathlib
import re
import subprocess
import types

import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from csml_tf.conversion import preset
from csml_tf.export import formats, saved_model
from csml_tf.models.backbones import resnet
from tests.training import tiny_run

ROOT = pathlib.Path(__file__).parents[2]
PYTHON = os.environ.get("CSML_TF_BRIDGES", ROOT / ".venv-bridges" / "bin" / "python")
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
PROGRAM = """
import sys
import numpy as np
images = np.load("images.npy")
{code}
{more}
if hasattr(features, "detach"):
    features = features.detach().cpu()
np.save("features.npy", np.asarray(features))
"""
TIMM_FILE = """
import timm, torch
encoder = timm.create_model(
    "ARCH", checkpoint_path="preset/model.safetensors", num_classes=0
).eval()
normalized = torch.tensor((images - MEAN) / STD, dtype=torch.float32).permute(0, 3, 1, 2)
features = encoder(normalized)
"""
TIMM_PREPROCESSING = """
settings = timm.data.resolve_model_data_config(encoder)
assert settings["mean"] == tuple(MEAN) and settings["std"] == tuple(STD), settings
assert settings["input_size"] == (3, 64, 64) and settings["interpolation"] == "bilinear", settings
"""
KERAS_HUB_TRAINS = """
import keras
labels = np.arange(len(images)) % 2
pool = keras.layers.GlobalAveragePooling2D()
classifier = keras.Sequential([encoder, pool, keras.layers.Dense(2)])
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
classifier.compile(keras.optimizers.Adam(1e-4), loss)
before = [np.array(weight) for weight in encoder.trainable_weights]
losses = classifier.fit(images, labels, epochs=4, verbose=0).history["loss"]
assert losses[-1] < losses[0], losses
moved = [np.any(np.array(w) != old) for w, old in zip(encoder.trainable_weights, before)]
assert all(moved), moved
"""
KERAS_HUB_SAVES = """
encoder.save_to_preset("again")
again = keras_hub.models.ResNetBackbone.from_preset("again")
assert np.array_equal(np.array(again.weights[0]), np.array(encoder.weights[0]))
"""
FINE_TUNES = """
classifier = keras.Sequential([encoder, keras.layers.Dense(2)])
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
classifier.compile(keras.optimizers.Adam(1e-4), loss)
losses = classifier.fit(images, np.arange(len(images)) % 2, epochs=4, verbose=0).history["loss"]
assert losses[-1] < losses[0], losses
"""
BACKENDS = ("tensorflow", "jax", "torch")


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists(PYTHON), reason="no .venv-bridges: CONTRIBUTING.md")
class BridgesTest(tf.test.TestCase, parameterized.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        tf.keras.utils.set_random_seed(0)
        cls.folder = tiny_run.make_temp_dir(cls.addClassCleanup)
        cls.images = np.random.default_rng(0).uniform(size=[4, 64, 64, 3]).astype("float32")
        np.save(cls.folder / "images.npy", cls.images)
        cls.features = {}

    @classmethod
    def made(cls, depth, format_):
        """The folder of an export of a ResNet."""
        model = cls.folder / f"model{depth}"
        if depth not in cls.features:
            encoder = types.SimpleNamespace(backbone=resnet.make_resnet(depth), heads={}, levels=())
            rng = np.random.default_rng(depth)
            for variable in encoder.backbone.variables:
                if "moving" in variable.name:
                    variable.assign(variable + rng.uniform(0.0, 0.3, variable.shape))
            saved_model.export(encoder, model, MEAN, STD, {"image_size": 64, "resize_size": 72})
            cls.features[depth] = saved_model.load(model)(cls.images).numpy()
        folder = cls.folder / f"{format_}{depth}"
        if not folder.exists():
            row = preset.FORMAT if format_ == "preset" else format_
            print(formats.export(model, folder, row))
        return folder

    def check(self, depth, folder, code, more="", backend="tensorflow"):
        """Runs lines in the other environment, and compares the features."""
        values = {"DIR": str(folder), "MEAN": str([*MEAN]), "STD": str([*STD])}
        for name, value in {**values, "ARCH": f"resnet{depth}"}.items():
            code, more = code.replace(name, value), more.replace(name, value)
        code = code.replace("preset/", f"{folder}/")
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("TF_", "PYTHON"))}
        process = subprocess.run(
            [PYTHON, "-c", PROGRAM.format(code=code, more=more)],
            cwd=self.folder,
            env={**environment, "KERAS_BACKEND": backend, "CUDA_VISIBLE_DEVICES": ""},
            capture_output=True,
            text=True,
        )
        self.assertEqual(process.returncode, 0, process.stderr)
        found, expected = np.load(self.folder / "features.npy"), self.features[depth]
        print(f"{folder.name} {backend}: {np.abs(found - expected).max() / expected.max():.1e}")
        self.assertAllClose(found, expected, rtol=1e-4, atol=1e-4)

    def lines(self, folder, word):
        """The lines of Python of a card that import a library."""
        blocks = re.findall(
            r"^```python\n(.*?)^```$", (folder / "README.md").read_text(), re.M | re.S
        )
        (code,) = [block for block in blocks if re.search(rf"^import {word}$", block, re.M)]
        return code

    @parameterized.parameters(18, 50)
    def test_timm(self, depth):
        folder = self.made(depth, "preset")
        self.check(depth, folder, self.lines(folder, "timm"), TIMM_PREPROCESSING)
        self.check(depth, folder, TIMM_FILE)

    @parameterized.parameters(18, 50)
    def test_torchvision(self, depth):
        folder = self.made(depth, "preset")
        self.check(depth, folder, self.lines(folder, "torchvision"))

    @parameterized.product(depth=[18, 50], backend=BACKENDS)
    def test_keras_hub(self, depth, backend):
        folder = self.made(depth, "preset")
        code = self.lines(folder, "keras_hub")
        self.check(depth, folder, code, KERAS_HUB_SAVES + KERAS_HUB_TRAINS, backend)

    @parameterized.parameters(*BACKENDS)
    def test_keras_file(self, backend):
        folder = self.made(18, "keras")
        self.check(18, folder, self.lines(folder, "keras"), FINE_TUNES, backend)

    def test_saved_model_in_keras_3(self):
        folder = self.made(18, "saved_model")
        self.check(18, folder, self.lines(folder, "keras"))


if __name__ == "__main__":
    tf.test.main()
