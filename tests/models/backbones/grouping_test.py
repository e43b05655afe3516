import numpy as np
import tensorflow as tf

from csml_tf.models.backbones import grouping
from csml_tf.models.split_batch_norm import SplitBatchNormalization

layers = tf.keras.layers
IMAGES = np.random.default_rng(0).normal(size=[4, 8, 8, 3]).astype("float32")


def make_network():
    images = x = tf.keras.Input([8, 8, 3])
    x = layers.Conv2D(4, 3, name="first")(x)
    x = layers.BatchNormalization(momentum=0.7, epsilon=0.2, scale=False)(x)
    x = layers.Dropout(0.5)(x)
    inner = tf.keras.Sequential([layers.Conv2D(5, 1, name="first"), layers.BatchNormalization()])
    x = layers.LayerNormalization()(inner(x))
    return tf.keras.Model(images, {"stage4": x}, name="mine")


def loop_batch_norm(maps, epsilon, beta):
    """Of two groups, without a scale."""
    groups = []
    for group in np.split(maps, 2):
        mean, variance = group.mean(axis=(0, 1, 2)), group.var(axis=(0, 1, 2))
        groups.append((group - mean) / np.sqrt(variance + epsilon) + beta)
    return np.concatenate(groups)


class GroupBatchNormTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.network = make_network()
        for variable in self.network.weights:
            variable.assign(variable + np.random.default_rng(1).uniform(0.1, 0.2, variable.shape))
        self.grouped = grouping.group_batch_norm(self.network, 2)

    def test_is_the_same_in_inference(self):
        expected = self.network(IMAGES, training=False)["stage4"]
        self.assertAllClose(self.grouped(IMAGES, training=False)["stage4"], expected, rtol=1e-5)
        self.assertEqual(self.grouped.name, "mine")

    def test_normalizes_groups_in_training_and_drops_nothing(self):
        norm = self.grouped.get_layer("batch_normalization")
        part = tf.keras.Model(self.grouped.input, [norm.input, norm.output])
        maps, found = part(IMAGES, training=True)
        expected = loop_batch_norm(maps.numpy(), 0.2, norm.beta.numpy())
        self.assertAllClose(found, expected, rtol=1e-4, atol=1e-5)
        again = self.grouped(IMAGES, training=True)["stage4"]
        self.assertAllEqual(self.grouped(IMAGES, training=True)["stage4"], again)

    def test_keeps_settings(self):
        first, second = (
            layer for layer in self.grouped.layers if isinstance(layer, SplitBatchNormalization)
        )
        self.assertEqual((first.momentum, first.epsilon, first.scale), (0.7, 0.2, False))
        self.assertEqual((first.num_groups, second.num_groups), (2, 2))

    def test_takes_any_size(self):
        self.assertEqual(self.grouped.input_shape, (None, None, None, 3))
        self.assertEqual(self.grouped(np.zeros([1, 12, 9, 3]))["stage4"].shape, [1, 10, 7, 5])

    def test_names_do_not_depend_on_what_was_made_before(self):
        names = [layer.name for layer in self.grouped.layers]
        self.assertLen(set(names), len(names))
        again = grouping.group_batch_norm(make_network(), 2)
        self.assertEqual([layer.name for layer in again.layers], names)

    def test_synchronized_batch_norm(self):
        images = tf.keras.Input([None, None, 3])
        maps = layers.experimental.SyncBatchNormalization(momentum=0.7)(images)
        grouped = grouping.group_batch_norm(tf.keras.Model(images, maps), 2)
        norm = grouped.layers[-1]
        self.assertIs(type(norm), SplitBatchNormalization)
        self.assertEqual((norm.num_groups, norm.momentum), (2, 0.7))

    def test_frozen_batch_norm_stays_frozen(self):
        self.network.get_layer("first").trainable = False
        for layer in self.network.submodules:
            if isinstance(layer, layers.BatchNormalization):
                layer.trainable = False
        grouped = grouping.group_batch_norm(self.network, 2)
        expected = grouped(IMAGES, training=False)["stage4"]
        self.assertAllClose(grouped(IMAGES, training=True)["stage4"], expected)


if __name__ == "__main__":
    tf.test.main()
