import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from csml_tf.errors import InputError
from csml_tf.models import encoder
from csml_tf.models.backbones import contract
from csml_tf.models.split_batch_norm import SplitBatchNormalization

layers = tf.keras.layers


class Doubling(layers.Layer):
    """Without a get_config that its `__init__` would take."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def call(self, maps):
        return self.factor * maps


def make(
    size=None,
    norms=(lambda: SplitBatchNormalization(2), lambda: SplitBatchNormalization(2)),
    strides=(2, 2),
    names=("stage3", "stage4"),
    extra=lambda maps: maps,
):
    images = x = tf.keras.Input([size, size, 3])
    maps = {}
    for name, norm, stride in zip(names, norms, strides):
        x = maps[name] = norm()(layers.Conv2D(4, 3, stride, padding="same")(x))
    maps[names[-1]] = extra(x)
    return tf.keras.Model(images, maps)


def upsample(maps):
    return layers.UpSampling2D(4)(maps)


def check(make_backbone, make_head=None):
    contract.check(encoder.MultiLevelEncoder(make_backbone, {"stage4": 3}, make_head=make_head))


BATCH_NORM = layers.BatchNormalization
FAULTS = {
    "fixed size": ({"size": 64}, r"takes images of \[64, 64, 3\] only.* any size"),
    "stock": (
        {"norms": [lambda: BATCH_NORM(name="bn"), layers.ReLU]},
        "bn .BatchNorm.*cannot be split",
    ),
    "synchronized": (
        {"norms": [lambda: layers.experimental.SyncBatchNormalization(name="sync"), layers.ReLU]},
        "sync .SyncBatchNormalization. cannot be split .*group_batch_norm",
    ),
    "different groups": (
        {"norms": [lambda: SplitBatchNormalization(2), lambda: SplitBatchNormalization(4)]},
        r"\[2, 4\] groups: give all the same",
    ),
    "another axis": (
        {
            "size": 64,
            "norms": [lambda: SplitBatchNormalization(2, axis=2, name="rows"), layers.ReLU],
        },
        r"rows normalises axis \[2\]",
    ),
    "falling strides": ({"extra": upsample}, "fall at stage4 .stage3 2, stage4 1."),
    "no config": ({"extra": Doubling(2.0)}, "cannot be copied for an export, for images of 32"),
    "large images only": (
        {"extra": layers.AveragePooling2D(9)},
        "cannot be copied for an export, for images of 32 px .*any size from 32 px up",
    ),
    "names": ({"names": ["c4", "stage4"]}, r"\['c4', 'stage4'\]: call them .*stage1, stage2"),
    "no map": ({"extra": layers.Flatten()}, "stage4 is .* no map of"),
    "missing level": ({"names": ["stage2", "stage3"]}, "no stage4, .* out of stage2, stage3"),
}


class CheckTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(
        {},
        {"norms": [layers.LayerNormalization] * 2},
        {"norms": [lambda: BATCH_NORM(trainable=False)] * 2},
        {"strides": (2, 1)},  # As with dilation.
    )
    def test_accepts(self, **options):
        check(lambda: make(**options))

    @parameterized.named_parameters((name, *fault) for name, fault in FAULTS.items())
    def test_rejects(self, options, message):
        with self.assertRaisesRegex(InputError, message) as caught:
            check(lambda: make(**options))
        self.assertNotIn("\n", str(caught.exception))

    def test_rejects_what_is_no_functional_model(self):
        for wrong in (tf.keras.Sequential([layers.ReLU(input_shape=[None, None, 3])]), 3):
            with self.assertRaisesRegex(InputError, "no functional model of named maps"):
                check(lambda wrong=wrong: wrong)

    def test_rejects_a_map_with_two_names(self):
        images = tf.keras.Input([None, None, 3])
        maps = layers.ReLU()(images)
        twice = tf.keras.Model(images, {"stage3": maps, "stage4": maps})
        with self.assertRaisesRegex(InputError, "one map to several of stage3, stage4: name"):
            check(lambda: twice)

    def test_rejects_heads(self):
        with self.assertRaisesRegex(InputError, "head of stage4 makes .* not 1: end it with"):
            check(make, lambda stage, channels: layers.Dense(3, bias_initializer="ones"))

        class Head(layers.Layer):
            def __init__(self, dim):
                super().__init__()
                self.dense = layers.Dense(dim)

            def call(self, features):
                return tf.math.l2_normalize(self.dense(features), axis=1)

        with self.assertRaisesRegex(InputError, "head of stage4 cannot be copied for an export"):
            check(make, lambda stage, channels: Head(3))

    def test_changes_nothing(self):
        """Neither weights nor the random numbers to come, on which a run's results depend."""

        def draw(checked):
            tf.keras.utils.set_random_seed(1)
            made = encoder.MultiLevelEncoder(make, {"stage3": 3, "stage4": 3})
            before = made.get_weights()
            if checked:
                contract.check(made)
            for old, new in zip(before, made.get_weights()):
                self.assertAllEqual(old, new)
            drawn = layers.Dense(4)
            drawn.build([None, 4])
            return [drawn.get_weights()[0], tf.random.uniform([3]), np.random.uniform(size=3)]

        for plain, checked in zip(draw(False), draw(True)):
            self.assertAllEqual(plain, checked)


class StagesTest(tf.test.TestCase):
    def test_in_order_whatever_the_dict_says(self):
        backbone = make(names=["stage2", "stage3"])
        self.assertEqual(contract.stages(backbone), ("stage2", "stage3"))
        self.assertEqual(contract.last_stage(backbone), "stage3")


if __name__ == "__main__":
    tf.test.main()
