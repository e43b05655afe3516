import json
import pathlib
import types

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from csml_tf.augment.center_view import CenterView
from csml_tf.conversion import preset, safetensors_files
from csml_tf.errors import InputError
from csml_tf.export import formats, saved_model
from csml_tf.models.backbones import resnet
from tests.conversion import numpy_resnet
from tests.training import tiny_run

MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.25, 0.3]


def make_model(backbone):
    encoder = types.SimpleNamespace(backbone=backbone, heads={}, levels=())
    model, _ = saved_model.make_export_models(encoder, MEAN, STD)
    return model


class PresetTest(tf.test.TestCase, parameterized.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        tf.keras.utils.set_random_seed(0)
        cls.folder = tiny_run.make_temp_dir(cls.addClassCleanup)
        backbone = resnet.make_resnet(18, 64)
        rng = np.random.default_rng(0)
        for variable in backbone.variables:
            if "gamma" in variable.name or "variance" in variable.name:
                variable.assign(rng.uniform(0.5, 1.5, variable.shape))
            elif "beta" in variable.name or "mean" in variable.name:
                variable.assign(rng.normal(0.0, 0.2, variable.shape))
        cls.model = make_model(backbone)
        cls.images = rng.uniform(size=[2, 48, 48, 3]).astype(np.float32)
        cls.features, cls.entries = preset.write(cls.model, cls.folder, cls.order())
        cls.config = json.loads((cls.folder / "config.json").read_text())

    @classmethod
    def order(cls):
        view = CenterView(48, 60, mean=(0.0,) * 3, std=(1.0,) * 3)
        return formats.Order(pathlib.Path("runs/x"), "float32", view, {}, None, cls.images)

    def test_config(self):
        images = self.config.pop("pretrained_cfg")
        self.assertEqual(
            self.config, {"architecture": "resnet18", "num_classes": 0, "num_features": 512}
        )
        expected = {
            "input_size": [3, 48, 48],
            "pool_size": [2, 2],
            "interpolation": "bilinear",
            "crop_pct": 0.8,
            "mean": MEAN,
            "std": STD,
        }
        self.assertEqual({name: images[name] for name in expected}, expected)

    def test_files_compute_the_same(self):
        """By PyTorch's definitions, in NumPy, with what the folder says and nothing else."""
        tensors = safetensors_files.read(self.folder / "model.safetensors")
        images = (self.images - np.float32(MEAN)) / np.float32(STD)
        expected = numpy_resnet.forward(tensors, images.transpose(0, 3, 1, 2))["features"]
        tolerance = 1e-5 * np.abs(expected).max()
        self.assertAllClose(self.features, expected, rtol=1e-4, atol=tolerance)
        self.assertAllClose(self.model(self.images), expected, rtol=1e-4, atol=tolerance)

    def test_entries_of_the_card(self):
        expected = {"arch": "resnet18", "mean": MEAN, "std": STD}
        self.assertEqual(self.entries, {**expected, "image_size": 48, "resize_size": 60})

    @parameterized.named_parameters(
        ("cifar_stem", lambda: resnet.make_resnet(18, 64, "cifar"), "a ResNet-18 with the CIFAR"),
        ("narrow", lambda: resnet.make_resnet(18, 2), "a ResNet-18 of width 2, since .* width 64"),
        ("another_network", tiny_run.make_backbone, "the network in runs/x, .* ResNets only: "),
    )
    def test_refuses(self, make_backbone, message):
        folder = tiny_run.make_temp_dir(self.addCleanup)
        message = f"No preset describes {message}.*--format=.* opens in"
        with self.assertRaisesRegex(InputError, message) as caught:
            preset.write(make_model(make_backbone()), folder, self.order())
        self.assertNotIn("\n", str(caught.exception))
        self.assertEmpty([*folder.iterdir()])


if __name__ == "__main__":
    tf.test.main()
