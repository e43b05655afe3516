import os
import pathlib
import sys
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from csml_tf.errors import InputError
from csml_tf.models.backbones import applications, catalog
from csml_tf.models.split_batch_norm import SplitBatchNormalization
from tests.training import tiny_run

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
SMALL = "MobileNetV3Small"
# Of each stage: its layer in Keras' own network, and its channels.
STAGES = {
    "MobileNetV3Small": [
        ("re_lu", 72),  # That expands the stride's last map, before the next stride.
        ("multiply", 96),
        ("multiply", 288),
        ("multiply", 576),
    ],
    "EfficientNetV2B0": [
        ("block2b_add", 32),
        ("block4a_expand_activation", 192),
        ("block6a_expand_activation", 672),
        ("top_activation", 1280),
    ],
    "ConvNeXtTiny": [("add", 96), ("add", 192), ("add", 384), ("layer_normalization", 768)],
    "ResNet50V2": [
        ("conv2_block3_preact_relu", 256),
        ("conv3_block4_preact_relu", 512),
        ("conv4_block6_preact_relu", 1024),
        ("post_relu", 2048),
    ],
    "DenseNet121": [("pool2_relu", 256), ("pool3_relu", 512), ("pool4_relu", 1024), ("relu", 1024)],
    "ResNet50": [
        ("conv2_block3_out", 256),
        ("conv3_block4_out", 512),
        ("conv4_block6_out", 1024),
        ("conv5_block3_out", 2048),
    ],
    "VGG16": [
        ("block3_conv3", 256),
        ("block4_conv3", 512),
        ("block5_conv3", 512),
        ("block5_pool", 512),
    ],
}


def make_keras_network(name):
    make = getattr(tf.keras.applications, name)
    network = make(include_top=False, weights=None, input_shape=(None, None, 3))
    rng = np.random.default_rng(0)
    for variable in network.weights:
        if variable.shape.rank == 1 and "normalization/" not in variable.name.lower():
            variable.assign(variable + rng.uniform(0.0, 0.1, variable.shape))
    return network, sys.modules[make.__module__].preprocess_input


def make_home(add_cleanup):
    """A folder in place of the user's, whose .keras/models is empty."""
    home = tiny_run.make_temp_dir(add_cleanup)
    (home / ".keras" / "models").mkdir(parents=True)
    patch = mock.patch.dict(os.environ, {"HOME": str(home)})
    patch.start()
    add_cleanup(patch.stop)
    return home / ".keras" / "models"


class MakeApplicationTest(tf.test.TestCase, parameterized.TestCase):
    def check_stages(self, name):
        made = applications.make_application(name, bn_groups=2)
        found = [(maps.node.layer.name, maps.shape[-1]) for maps in made.output.values()]
        for (layer, channels), (expected, expected_channels) in zip(found, STAGES[name]):
            self.assertIn(expected, layer)
            self.assertEqual(channels, expected_channels)
        self.assertEqual(list(made.output), ["stage1", "stage2", "stage3", "stage4"])

    def test_stages(self):
        self.check_stages(SMALL)

    @parameterized.parameters(*(name for name in STAGES if name != SMALL))
    @pytest.mark.slow
    def test_other_stages(self, name):
        self.check_stages(name)

    def check_weights(self, name, rtol=1e-3):
        """As Keras' own network sees images that its own preprocessing has made."""
        network, preprocess_input = make_keras_network(name)
        path = make_home(self.addCleanup) / "mine.h5"
        network.save_weights(path)
        made = applications.make_application(name, str(path), 1, MEAN, STD)
        pixels = np.random.default_rng(0).uniform(0, 255, size=[2, 64, 64, 3]).astype("float32")
        expected = network(preprocess_input(pixels.copy()), training=False)
        normalized = ((pixels / 255 - MEAN) / STD).astype("float32")
        found = made(normalized, training=False)["stage4"]
        scale = np.abs(expected).max()
        self.assertGreater(scale, 0.0)
        self.assertAllClose(found / scale, expected / scale, rtol=rtol, atol=1e-3)

    def test_weights_see_what_they_were_trained_on(self):
        self.check_weights(SMALL)

    @parameterized.parameters(*(name for name in STAGES if name != SMALL))
    @pytest.mark.slow
    def test_other_weights_see_what_they_were_trained_on(self, name):
        self.check_weights(name)

    def test_batch_norm_keeps_its_settings(self):
        made = applications.make_application(SMALL, bn_groups=2)
        norms = [layer for layer in made.layers if isinstance(layer, SplitBatchNormalization)]
        self.assertLen(norms, 34)
        for norm in norms:
            self.assertEqual((norm.num_groups, norm.momentum, norm.epsilon), (2, 0.999, 1e-3))

    def test_rejects(self):
        with self.assertRaisesRegex(InputError, "has no 'MobileNet9': it has ConvNeXtBase, "):
            applications.make_application("MobileNet9")

    @pytest.mark.slow
    def test_rejects_a_network_without_the_strides(self):
        with self.assertRaisesRegex(InputError, "InceptionV3 has no maps of stride 4.*: choose"):
            applications.make_application("InceptionV3")


class WeightsTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.models = make_home(self.addCleanup)

    @parameterized.parameters(
        ("MobileNetV3Small", "weights_mobilenet_v3_small_224_1.0_float_no_top_v2.h5"),
        ("EfficientNetV2B0", "efficientnetv2-b0_notop.h5"),
        ("ConvNeXtTiny", "convnext_tiny_notop.h5"),
        ("ResNet50V2", "resnet50v2_weights_tf_dim_ordering_tf_kernels_notop.h5"),
        ("ResNet50", "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5"),
        ("DenseNet121", "densenet121_weights_tf_dim_ordering_tf_kernels_notop.h5"),
        ("MobileNet", "mobilenet_1_0_224_tf_no_top.h5"),
        ("MobileNetV2", "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"),
        ("VGG16", "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"),
    )
    def test_finds_what_keras_keeps(self, name, file):
        for other in (file, "mobilenet_1_0_224_tf.h5", file.replace("no", "")):
            (self.models / other).touch()
        self.assertEqual(applications._find_weights(name), str(self.models / file))

    def test_never_mistakes_a_later_version(self):
        (self.models / "resnet50v2_weights_tf_dim_ordering_tf_kernels_notop.h5").touch()
        with self.assertRaisesRegex(InputError, "weights of ResNet50 are not in .*nothing is down"):
            applications._find_weights("ResNet50")

    def test_downloads_nothing(self):
        with self.assertRaisesRegex(InputError, f"applications.{SMALL}.include_top=False. once"):
            applications.make_application(SMALL, "imagenet")
        self.assertEqual(list(self.models.iterdir()), [])

    @parameterized.parameters("nothing", "other weights")
    def test_rejects_a_file(self, content):
        path = pathlib.Path(self.models, "mine.h5")
        if content == "other weights":
            layers = [tf.keras.layers.Dense(3, input_shape=[4])]
            tf.keras.Sequential(layers).save_weights(path)
        with self.assertRaisesRegex(InputError, f"mine.h5 holds no weights of {SMALL} .*: give"):
            applications.make_application(SMALL, str(path))


class MakeBackboneTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(
        ("MobileNetV3small", "did you mean 'MobileNetV3Small'"),
        ("ResNet", "did you mean 'resnet'"),
        ("convnext_tiny", "did you mean 'ConvNeXtTiny'"),
        (50, "There is no backbone 50: set BACKBONE to 'resnet' or"),
    )
    def test_rejects(self, name, message):
        with self.assertRaisesRegex(InputError, message):
            catalog.make_backbone(name)

    def test_hands_on(self):
        makers = {"make_resnet": lambda: "r", "make_application": lambda name: f"a {name}"}
        self.assertEqual(catalog.make_backbone(**makers), "r")
        self.assertEqual(catalog.make_backbone("VGG16", **makers), "a VGG16")


if __name__ == "__main__":
    tf.test.main()
