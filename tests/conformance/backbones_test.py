"""What every backbone promises, checked on every one of them."""

import functools
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from csml_tf.evaluation.frozen_encoder import FrozenEncoder
from csml_tf.export import formats, saved_model, tflite
from csml_tf.models.backbones import applications, contract, resnet
from csml_tf.models.encoder import MultiLevelEncoder
from csml_tf.training import optim
from tests.methods import made
from tests.training import tiny_run

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
BATCH, SIZE = 8, 32
# A program of somebody who does not have this package.
STRANGER = """
import sys
sys.modules["csml_tf"] = None  # An import of it fails.
import numpy as np
import tensorflow as tf
model = tf.keras.models.load_model("model", compile=False)
images = np.load("images.npy")
np.save("features.npy", model(images))
before = model.get_weights()
with tf.GradientTape() as tape:
    logits = tf.keras.layers.Dense(2)(model(images, training=True))
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(np.arange(len(images)) % 2, logits)
gradients = tape.gradient(losses, model.trainable_variables)
tf.keras.optimizers.legacy.SGD(0.1).apply_gradients(zip(gradients, model.trainable_variables))
moved = [bool(np.any(old != new)) for old, new in zip(before, model.get_weights())]
np.save("moved.npy", np.mean(moved))
"""


def make_images(count=4, size=SIZE):
    return np.random.default_rng(size).uniform(size=[count, size, size, 3]).astype("float32")


def make_encoder(make_backbone):
    return MultiLevelEncoder(make_backbone, {"stage3": 5, "stage4": 7})


def make_strategy(replicas):
    if replicas == 1:
        return tf.distribute.get_strategy()
    devices = [f"CPU:{i}" for i in range(replicas)]
    return tf.distribute.MirroredStrategy(devices, tf.distribute.ReductionToOneDevice())


def train(make_backbone, replicas):
    """One real step: (model, its logs, the weights before)."""
    strategy = make_strategy(replicas)
    with strategy.scope():
        tf.keras.utils.set_random_seed(0)
        model = made.make_csml(
            functools.partial(make_encoder, make_backbone),
            num_negatives=20,
            neighbor_warmup_epochs=0,
            seed=3,
        )
        model.compile(optim.TorchSGD(0.05))
    before = model.encoder.get_weights()
    rng = np.random.default_rng(0)
    batch = {
        name: rng.normal(size=[BATCH, SIZE, SIZE, 3]).astype("float32") for name in model.view_names
    }

    def own_part(context):
        number = context.replica_id_in_sync_group
        return {name: tf.constant(np.split(v, replicas)[number]) for name, v in batch.items()}

    views = strategy.experimental_distribute_values_from_function(own_part)
    logs = {name: float(v) for name, v in model.make_train_function()(iter([views])).items()}
    return model, logs, before


class MapsSuite:
    """Its maps, and what is exported of it."""

    strides = (4, 8, 16, 32)

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        tf.keras.utils.set_random_seed(0)
        cls.encoder = make_encoder(functools.partial(cls.make_backbone, bn_groups=2))
        rng = np.random.default_rng(0)
        for variable in cls.encoder.weights:  # Away from where batch norm does nothing.
            if variable.shape.rank == 1:
                variable.assign(variable + rng.uniform(0.0, 0.1, variable.shape))
        cls.folder = tiny_run.make_temp_dir(cls.addClassCleanup)
        card = {"id": "tiny", "image_size": SIZE}
        saved_model.export(cls.encoder, cls.folder / "model", MEAN, STD, card)

    def normalized(self, images):
        return (images - MEAN).astype("float32") / np.float32(STD)

    def check_features(self, found, images):
        expected = self.encoder.pooled_features(self.normalized(images))
        self.assertAllClose(found, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())

    def test_keeps_the_contract(self):
        contract.check(self.encoder)

    def test_strides(self):
        for size in (32, 64, 96):
            maps = self.encoder.backbone(np.zeros([1, size, size, 3], "float32"))
            self.assertEqual(tuple(maps), contract.STAGES)
            for stage, stride in zip(contract.STAGES, self.strides):
                self.assertEqual(maps[stage].shape[1:3], [size // stride] * 2)

    def test_any_size(self):
        images = make_images(1, 47)[:, :, :33]
        self.check_features(saved_model.load(self.folder / "model")(images), images)

    def test_opens_and_trains_without_this_package(self):
        images = make_images(8)
        np.save(self.folder / "images.npy", images)
        process = subprocess.run(
            [sys.executable, "-c", STRANGER], cwd=self.folder, capture_output=True, text=True
        )
        self.assertEqual(process.returncode, 0, process.stderr)
        self.check_features(np.load(self.folder / "features.npy"), images)
        # The weights before a batch norm that leads to nothing else may stay.
        self.assertGreater(np.load(self.folder / "moved.npy"), 0.8)

    def test_signatures(self):
        encoder = FrozenEncoder(self.folder / "model")
        images = make_images()
        outputs = encoder.all_maps(["features", *contract.STAGES, "embedding"])(tf.constant(images))
        self.check_features(outputs["features"], images)
        maps = self.encoder.backbone(self.normalized(images), training=False)
        for stage, expected in maps.items():
            tolerance = 1e-3 * np.abs(expected).max()
            self.assertAllClose(outputs[stage], expected, rtol=1e-3, atol=tolerance)
        embedding = self.encoder.embedding(self.normalized(images))
        self.assertAllClose(outputs["embedding"], embedding, atol=1e-3)

    def test_untrained_network(self):
        network = FrozenEncoder(self.folder / "model").untrained_network()
        self.assertTrue(np.all(np.isfinite(network(make_images()))))


class FormatsSuite(MapsSuite):
    """The other formats of the export, too."""

    def test_tflite(self):
        images = make_images(2)
        content = tflite.convert(saved_model.load(self.folder / "model"), SIZE, "float32")
        self.check_features(tflite.run(content, images), images)

    def test_other_formats(self):
        for format_, precision in (("keras", "float32"), ("saved_model", "float16")):
            output = self.folder / f"{format_}_{precision}"
            line = formats.export(self.folder / "model", output, format_, precision)
            self.assertIn(f"as {format_} in {precision}", line)


class TrainingSuite:
    """Its steps, as a method takes them."""

    def test_step(self):
        model, logs, before = train(functools.partial(self.make_backbone, bn_groups=2), 1)
        self.assertTrue(all(np.isfinite(value) for value in logs.values()))
        moved = [np.any(old != new) for old, new in zip(before, model.encoder.get_weights())]
        self.assertGreater(np.mean(moved), 0.9)

    def test_two_replicas_take_the_same_step(self):
        make_backbone = functools.partial(self.make_backbone, bn_groups=2)
        expected, expected_logs, _ = train(make_backbone, 1)
        actual, actual_logs, _ = train(make_backbone, 2)
        self.assertAllClose(actual_logs, expected_logs, rtol=1e-4)
        for a, b in zip(actual.trainable_weights, expected.trainable_weights):
            self.assertAllClose(a, b, rtol=1e-2, atol=1e-3)


@pytest.mark.slow
class ResNet18Test(FormatsSuite, TrainingSuite, tf.test.TestCase):
    make_backbone = functools.partial(resnet.make_resnet, 18, 4)


class CifarResNet18Test(MapsSuite, tf.test.TestCase):
    make_backbone = functools.partial(resnet.make_resnet, 18, 4, "cifar")
    strides = (1, 2, 4, 8)


class MobileNetV3SmallTest(MapsSuite, tf.test.TestCase):
    make_backbone = functools.partial(applications.make_application, "MobileNetV3Small")


@pytest.mark.slow
class CifarResNet18FormatsTest(FormatsSuite, tf.test.TestCase):
    make_backbone = functools.partial(resnet.make_resnet, 18, 4, "cifar")
    strides = (1, 2, 4, 8)


@pytest.mark.slow
class MobileNetV3SmallFormatsTest(FormatsSuite, TrainingSuite, tf.test.TestCase):
    make_backbone = functools.partial(applications.make_application, "MobileNetV3Small")


@pytest.mark.slow
class EfficientNetV2B0Test(FormatsSuite, TrainingSuite, tf.test.TestCase):
    make_backbone = functools.partial(applications.make_application, "EfficientNetV2B0")


@pytest.mark.slow
class ConvNeXtTinyTest(FormatsSuite, TrainingSuite, tf.test.TestCase):
    make_backbone = functools.partial(applications.make_application, "ConvNeXtTiny")


@pytest.mark.slow
class ResNet50V2Test(FormatsSuite, TrainingSuite, tf.test.TestCase):
    make_backbone = functools.partial(applications.make_application, "ResNet50V2")


@pytest.mark.slow
class DenseNet121Test(FormatsSuite, TrainingSuite, tf.test.TestCase):
    make_backbone = functools.partial(applications.make_application, "DenseNet121")


@pytest.mark.slow
class Bottleneck50Test(FormatsSuite, TrainingSuite, tf.test.TestCase):
    make_backbone = functools.partial(resnet.make_resnet, 50, 8)


if __name__ == "__main__":
    tf.test.main()
