import functools
import json
import os
import shutil
import subprocess
import sys
from unittest import mock

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from csml_tf.errors import InputError
from csml_tf.export import saved_model
from csml_tf.models import encoder
from csml_tf.models.backbones import contract, resnet
from csml_tf.models.split_batch_norm import SplitBatchNormalization
from tests.training import tiny_run

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
CARD = {"id": "tiny", "image_size": 32, "epochs": 3}
SIZES = (32, 48, 224)

# Programs of somebody who does not have this package.
WITHOUT_PACKAGE = """
import sys
sys.modules["csml_tf"] = None  # An import of it fails.
import numpy as np
import tensorflow as tf
"""
FEATURES = """
model = tf.keras.models.load_model("model")
images = np.load("images.npz")
np.savez("features.npz", **{size: model(images[size]) for size in images})
"""
FINE_TUNING = """
import json
backbone = LOAD
head = tf.keras.layers.Dense(2)
images, labels = np.load("images.npy"), np.arange(16) % 2
optimizer = tf.keras.optimizers.legacy.SGD(0.01)
inference_is_default = np.array_equal(backbone(images), backbone(images, training=False))
moving = [v for v in backbone.non_trainable_variables if "moving" in v.name]
before = [[v.numpy() for v in vs] for vs in (backbone.trainable_variables, moving)]
losses = []
for _ in range(4):
    with tf.GradientTape() as tape:
        logits = head(backbone(images, training=True))
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        losses.append(tf.reduce_mean(loss))
    variables = backbone.trainable_variables + head.trainable_variables
    optimizer.apply_gradients(zip(tape.gradient(losses[-1], variables), variables))
after = [[v.numpy() for v in vs] for vs in (backbone.trainable_variables, moving)]
weights, statistics = (
    [bool(np.any(old != new)) for old, new in zip(*pair)] for pair in zip(before, after)
)
print(json.dumps({
    "losses": [float(loss) for loss in losses],
    "weights": len(weights),
    "moved_weights": sum(weights),
    "statistics": len(statistics),
    "moved_statistics": sum(statistics),
    "inference_is_default": bool(inference_is_default),
}))
"""


def make_images(size, count=4):
    return np.random.default_rng(size).uniform(size=[count, size, size, 3]).astype("float32")


def make_trained_encoder(bn_groups=2):
    """Weights, biases and moving statistics all differ from their start."""
    make_backbone = functools.partial(resnet.make_resnet, 18, 2, bn_groups=bn_groups)
    trained = encoder.MultiLevelEncoder(make_backbone, {"stage3": 5, "stage4": 7})
    rng = np.random.default_rng(0)
    for variable in trained.variables:
        variable.assign(variable + rng.uniform(0.0, 0.3, variable.shape))
    return trained


class ExportTest(tf.test.TestCase, parameterized.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.encoder = make_trained_encoder()
        cls.folder = tiny_run.make_temp_dir(cls.addClassCleanup)
        cls.model_dir = cls.folder / "model"
        saved_model.export(cls.encoder, cls.model_dir, MEAN, STD, CARD)
        cls.signatures = tf.saved_model.load(str(cls.model_dir)).signatures

    def normalized(self, images):
        return (images - MEAN).astype("float32") / np.float32(STD)

    def features(self, images):
        return self.encoder.pooled_features(self.normalized(images))

    def run_stranger(self, program):
        """Runs it beside the exported model; returns what it prints, warnings included."""
        return subprocess.run(
            [sys.executable, "-c", WITHOUT_PACKAGE + program],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=True,
        ).stdout

    def test_loads_without_this_package(self):
        np.savez(self.folder / "images.npz", **{str(size): make_images(size) for size in SIZES})
        self.run_stranger(FEATURES)
        found = np.load(self.folder / "features.npz")
        for size in SIZES:
            self.assertAllClose(
                found[str(size)], self.features(make_images(size)), rtol=1e-5, atol=1e-5
            )

    def test_signatures(self):
        inputs = {
            name: ("images", tf.float32) for name in ("serving_default", "embed", "endpoints")
        }
        inputs["serving_uint8"] = ("images_uint8", tf.uint8)
        self.assertEqual({*self.signatures}, {*inputs})
        for name, function in self.signatures.items():
            (images,) = function.structured_input_signature[1].values()
            self.assertEqual((images.name, images.dtype), inputs[name])
            self.assertEqual(images.shape.as_list(), [None, None, None, 3])

    def test_bytes(self):
        images = np.random.default_rng(0).integers(0, 256, [2, 32, 32, 3], np.uint8)
        output = self.signatures["serving_uint8"](images_uint8=tf.constant(images))
        expected = self.features(np.float32(images) / np.float32(255))
        self.assertAllClose(output["features"], expected, rtol=1e-5)

    def test_floats_far_above_1_are_refused(self):
        images = 255 * make_images(32)
        for name in ("serving_default", "embed", "endpoints"):
            with self.assertRaisesRegex(tf.errors.InvalidArgumentError, "floats in .0, 1.: divide"):
                self.signatures[name](images=tf.constant(images))
        images = -1 + 3.6 * make_images(32)  # As of resampling with overshoot.
        features = self.signatures["serving_default"](images=tf.constant(images))["features"]
        self.assertAllClose(features, self.features(images), rtol=1e-4, atol=1e-4)

    @parameterized.parameters([[32, 32, 3]], [[1, 1, 32, 32, 3]], [[3]])
    def test_other_ranks_are_an_error(self, shape):
        """A convolution that is given one may end the process, and a server with it."""
        for name, function in self.signatures.items():
            dtype = tf.uint8 if name == "serving_uint8" else tf.float32
            images = tf.zeros(shape, dtype)
            (argument,) = function.structured_input_signature[1]
            with self.assertRaises((tf.errors.InvalidArgumentError, ValueError)):
                function(**{argument: images})

    @parameterized.parameters(*SIZES)
    def test_serving_default(self, size):
        output = self.signatures["serving_default"](images=tf.constant(make_images(size)))
        self.assertEqual({*output}, {"features"})
        self.assertEqual(output["features"].shape, [4, self.encoder.feature_dim])
        self.assertAllClose(output["features"], self.features(make_images(size)), rtol=1e-5)

    def test_embed(self):
        output = self.signatures["embed"](images=tf.constant(make_images(32)))
        self.assertEqual({*output}, {"embedding"})
        self.assertAllClose(tf.norm(output["embedding"], axis=1), tf.ones(4))
        expected = self.encoder(self.normalized(make_images(32)), training=False)["stage4"]
        self.assertEqual(expected.shape, [4, 7])
        self.assertAllClose(output["embedding"], expected, atol=1e-5)

    def test_endpoints(self):
        images = make_images(64)
        output = self.signatures["endpoints"](images=tf.constant(images))
        self.assertEqual({*output}, {*contract.STAGES, "features"})
        maps = self.encoder.backbone(self.normalized(images), training=False)
        for number, stage in enumerate(contract.STAGES):
            side = 64 // 4 // 2**number
            self.assertEqual(output[stage].shape, [4, side, side, 2 * 2**number])
            self.assertAllClose(output[stage], maps[stage], rtol=1e-4, atol=1e-4)
        self.assertAllClose(output["features"], self.features(images), rtol=1e-5)

    # TF Hub imports a second Keras, beside the one of this process: each in its own.
    @parameterized.parameters(
        "tf.keras.models.load_model('model')",
        "__import__('tensorflow_hub').KerasLayer('model', trainable=True)",
    )
    def test_trains(self, load):
        np.save(self.folder / "images.npy", make_images(32, count=16))
        output = self.run_stranger(FINE_TUNING.replace("LOAD", load))
        result = json.loads(output.splitlines()[-1])
        self.assertLess(result["losses"][-1], result["losses"][0])
        num_weights = len(self.encoder.backbone.trainable_variables)
        self.assertEqual((result["weights"], result["moved_weights"]), (num_weights, num_weights))
        self.assertEqual((result["statistics"], result["moved_statistics"]), (40, 40))
        self.assertTrue(result["inference_is_default"])
        self.assertNotIn("Gradients do not exist", output)

    def test_reusable_saved_model(self):
        """TF Hub's interface, whose batch statistics are those of the first convolution here."""
        loaded = tf.saved_model.load(str(self.model_dir))
        images = make_images(32, count=8)
        self.assertAllClose(loaded(images), self.features(images), rtol=1e-5)
        self.assertEqual([*loaded.regularization_losses], [])
        self.assertLen(loaded.trainable_variables, 60)
        named = {variable.name: variable for variable in loaded.variables}
        before = {name: variable.numpy() for name, variable in named.items()}
        loaded(images, training=False)
        for name, variable in named.items():
            self.assertAllEqual(variable, before[name])
        self.assertNotAllClose(loaded(images, training=True), self.features(images))
        padded = np.pad(self.normalized(images), [[0, 0], [3, 3], [3, 3], [0, 0]])
        maps = tf.nn.conv2d(padded, before["stem/kernel:0"], 2, "VALID").numpy()
        self.assertAllClose(
            named["stem_bn/moving_mean:0"],
            0.9 * before["stem_bn/moving_mean:0"] + 0.1 * maps.mean(axis=(0, 1, 2)),
            rtol=1e-4,
            atol=1e-5,
        )

    def test_card(self):
        self.assertContainsSubset(CARD, saved_model.read_card(self.model_dir))
        self.assertEqual(saved_model.read_card(self.folder), {})


class MakeExportModelTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(1, 2)
    def test_stock_layers_only(self, bn_groups):
        trained = make_trained_encoder(bn_groups)
        model, _ = saved_model.make_export_models(trained, MEAN, STD)
        layers = [*model._flatten_layers(), *model.projection_head._flatten_layers()]
        for layer in layers:
            self.assertNotIn("csml_tf", type(layer).__module__)
            self.assertNotIsInstance(layer, SplitBatchNormalization)
        norms = [layer for layer in layers if isinstance(layer, tf.keras.layers.BatchNormalization)]
        self.assertLen(norms, 20)
        for norm in norms:
            self.assertEqual((norm.momentum, norm.epsilon), (0.9, 1e-5))

    def test_endpoints_of_older_exports(self):
        """Which had no layers of the stages' very names."""
        backbone = resnet.make_resnet(18, 2)
        features = tf.keras.layers.GlobalAveragePooling2D()(backbone.output["stage4"])
        endpoints = saved_model.make_endpoints_model(tf.keras.Model(backbone.input, features))
        expected = backbone(make_images(64))
        found = endpoints(make_images(64))
        self.assertEqual({*found}, {*expected, "features"})
        for stage, maps in expected.items():
            self.assertAllEqual(found[stage], maps)

    def test_endpoints_of_another_model(self):
        images = tf.keras.Input([8, 8, 3])
        model = tf.keras.Model(images, tf.keras.layers.Flatten()(images))
        with self.assertRaisesRegex(ValueError, "no layer out of stage1, stage2, stage3, stage4"):
            saved_model.make_endpoints_model(model)

    def test_layers_of_the_stages(self):
        trained = make_trained_encoder()
        model, _ = saved_model.make_export_models(trained, MEAN, STD)
        normalized = ((make_images(32) - MEAN) / STD).astype("float32")
        expected = trained.backbone(normalized, training=False)
        for stage in contract.STAGES:
            part = tf.keras.Model(model.input, model.get_layer(stage).output)
            self.assertAllClose(part(make_images(32)), expected[stage], rtol=1e-3, atol=1e-3)

    def test_without_a_head(self):
        headless = mock.Mock(backbone=make_trained_encoder().backbone, heads={}, levels=())
        folder = tiny_run.make_temp_dir(self.addCleanup)
        saved_model.export(headless, folder / "model", MEAN, STD, {})
        signatures = tf.saved_model.load(str(folder / "model")).signatures
        self.assertEqual({*signatures}, {"serving_default", "serving_uint8", "endpoints"})
        self.assertFalse(hasattr(saved_model.load(folder / "model"), "projection_head"))

    def test_weights_are_copies(self):
        trained = make_trained_encoder()
        model, _ = saved_model.make_export_models(trained, MEAN, STD)
        before = model(make_images(32))
        for variable in trained.variables:
            variable.assign(tf.zeros_like(variable))
        self.assertAllEqual(model(make_images(32)), before)


class TrainingStateTest(parameterized.TestCase):
    @parameterized.parameters(b"", b"PK\x03\x04 cut off", b"no archive", "array alone")
    def test_damaged(self, content):
        folder = tiny_run.make_temp_dir(self.addCleanup)
        path = folder / "assets.extra" / "training_state.npz"
        path.parent.mkdir()
        if content == "array alone":
            with path.open("wb") as file:
                np.save(file, np.ones(3))
        else:
            path.write_bytes(content)
        with self.assertRaisesRegex(InputError, r"training_state.npz is damaged \(.*\): delete it"):
            saved_model.read_training_state(folder)


class ReplaceTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = tiny_run.make_temp_dir(self.addCleanup)
        self.encoder = tiny_run.make_encoder()

    def export(self, card):
        saved_model.export(self.encoder, self.folder / "model", MEAN, STD, card)

    def test_leaves_the_newest_only(self):
        for number in (1, 2):
            self.export({"number": number})
        self.assertEqual(os.listdir(self.folder), ["model"])
        self.assertEqual(saved_model.read_card(self.folder / "model")["number"], 2)

    def test_failure_keeps_the_older(self):
        self.export({"number": 1})
        error = OSError("No space left on device")
        with (
            mock.patch.object(tf.keras.Model, "save", side_effect=error),
            self.assertRaises(OSError),
        ):
            self.export({"number": 2})
        self.assertEqual(saved_model.read_card(self.folder / "model")["number"], 1)
        self.assertIsNotNone(tf.saved_model.load(str(self.folder / "model")))

    def test_rests_of_a_crash_do_not_matter(self):
        self.export({"number": 1})
        for rest in ("model.tmp", "model.old"):
            shutil.copytree(self.folder / "model", self.folder / rest)
        self.export({"number": 2})
        self.assertEqual(os.listdir(self.folder), ["model"])


if __name__ == "__main__":
    tf.test.main()
