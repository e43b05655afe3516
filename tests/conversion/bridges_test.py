"""Exports in the libraries that they are for, by the lines of their cards.

The libraries do not go together with TensorFlow 2.15. They are in an environment of their own,
`.venv-bridges`, or that of the Python that CSML_TF_BRIDGES names; CONTRIBUTING.md says how it is
made.
"""

import json
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
MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.25, 0.3]
# Runs each piece of code by itself and keeps its features.
PROGRAM = """
import json
import numpy as np
found = {}
for name, code in json.load(open("codes.json")).items():
    scope = {"np": np, "images": np.load("images.npy")}
    exec(code, scope)
    features = scope["features"]
    found[name] = np.asarray(features.detach().cpu() if hasattr(features, "detach") else features)
np.savez("found.npz", **found)
"""
TIMM_SETTINGS = """
settings = timm.data.resolve_model_data_config(encoder)
assert (settings["mean"], settings["std"]) == (MEAN, STD), settings
assert settings["input_size"] == [3, 64, 64] and settings["interpolation"] == "bilinear", settings
assert settings["crop_pct"] == 64 / 72, settings
"""
TIMM_FILE = """
encoder = timm.create_model("resnet18", checkpoint_path="DIR/model.safetensors", num_classes=0)
features = encoder.eval()(normalized)
"""
KERAS_HUB_SAVES = """
encoder.save_to_preset("again")
again = keras_hub.models.ResNetBackbone.from_preset("again")
assert np.array_equal(np.array(again.weights[0]), np.array(encoder.weights[0]))
convert = keras_hub.layers.ImageConverter.from_preset("DIR")
assert np.allclose(np.array(convert(255 * images)), (images - MEAN) / STD, atol=1e-5)
"""
TRAINS = """
pool = [keras.layers.GlobalAveragePooling2D()] if len(encoder.output.shape) == 4 else []
classifier = keras.Sequential([encoder, *pool, keras.layers.Dense(2)])
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
classifier.compile(keras.optimizers.Adam(1e-5), loss)
before = [np.array(weight) for weight in encoder.trainable_weights]
losses = classifier.fit(images, np.arange(4) % 2, epochs=3, verbose=0).history["loss"]
assert losses[-1] < losses[0], losses
assert all(np.any(np.array(w) != old) for w, old in zip(encoder.trainable_weights, before))
"""


def make_encoder(depth):
    """Random in everything, and with features that are not 0."""
    backbone = resnet.make_resnet(depth)
    rng = np.random.default_rng(depth)
    for variable in backbone.variables:
        if re.search("gamma|variance", variable.name):
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
        elif re.search("beta|mean", variable.name):
            variable.assign(rng.normal(0.0, 0.2, variable.shape))
    return types.SimpleNamespace(backbone=backbone, heads={}, levels=())


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists(PYTHON), reason="no .venv-bridges: CONTRIBUTING.md")
class BridgesTest(tf.test.TestCase, parameterized.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = tiny_run.make_temp_dir(cls.addClassCleanup)
        images = np.random.default_rng(0).uniform(size=[4, 64, 64, 3]).astype("float32")
        np.save(cls.folder / "images.npy", images)
        cls.features = {}
        for depth, rows in ((18, (preset.FORMAT, "keras", "saved_model")), (50, (preset.FORMAT,))):
            model = cls.folder / f"model{depth}"
            card = {"image_size": 64, "resize_size": 72}
            saved_model.export(make_encoder(depth), model, MEAN, STD, card)
            cls.features[str(depth)] = saved_model.load(model)(images).numpy()
            for row in rows:
                formats.export(model, cls.folder / f"{getattr(row, 'name', row)}{depth}", row)

    def lines(self, folder, library):
        """The lines of Python that a card has for a library."""
        text = (self.folder / folder / "README.md").read_text()
        blocks = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        (code,) = [block for block in blocks if f"import {library}\n" in block]
        return code

    def check(self, backend, *pieces):
        """Runs (folder, library, more lines) in the other environment, and compares features."""
        names = {"MEAN": str(MEAN), "STD": str(STD)}
        codes = {}
        for folder, library, more in pieces:
            code = self.lines(folder, library) + more
            for name, value in {**names, "DIR": str(self.folder / folder)}.items():
                code = code.replace(name, value)
            codes[f"{folder} {library}"] = code
        (self.folder / "codes.json").write_text(json.dumps(codes))
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("TF_", "PYTHON"))}
        process = subprocess.run(
            [PYTHON, "-c", PROGRAM],
            cwd=self.folder,
            env={**environment, "KERAS_BACKEND": backend, "CUDA_VISIBLE_DEVICES": ""},
            capture_output=True,
            text=True,
        )
        self.assertEqual(process.returncode, 0, process.stderr)
        found = np.load(self.folder / "found.npz")
        for name in codes:
            expected = self.features[name.split()[0][-2:]]
            difference = np.abs(found[name] - expected).max() / np.abs(expected).max()
            print(f"{name}, Keras on {backend}: features differ by {difference:.1e} of the largest")
            self.assertLess(difference, 1e-4)

    def test_pytorch(self):
        self.check(
            "torch",
            ("preset18", "timm", TIMM_SETTINGS + TIMM_FILE),
            ("preset50", "timm", ""),
            ("preset18", "torchvision", ""),
            ("preset50", "torchvision", ""),
        )

    @parameterized.parameters("tensorflow", "jax", "torch")
    def test_keras_3(self, backend):
        self.check(
            backend,
            ("preset18", "keras_hub", KERAS_HUB_SAVES + TRAINS),
            ("preset50", "keras_hub", ""),
            ("keras18", "keras", TRAINS),
            *([("saved_model18", "keras", "")] if backend == "tensorflow" else []),
        )


if __name__ == "__main__":
    tf.test.main()
