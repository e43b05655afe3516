import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from csml_tf.models import layer_copies
from csml_tf.models.split_batch_norm import SplitBatchNormalization

IMAGES = np.random.default_rng(0).normal(size=[2, 8, 8, 3]).astype("float32")
layers = tf.keras.layers


def nested(maps):
    inner_images = tf.keras.Input([None, None, 3])
    x = layers.Conv2D(4, 3, padding="same")(inner_images)
    inner = tf.keras.Model(inner_images, [x, layers.ReLU()(x)])
    first, second = inner(maps)
    return layers.Add()([second, tf.keras.Sequential([layers.Conv2D(4, 1)])(first)])


def shared(maps):
    conv = layers.Conv2D(3, 3, padding="same", kernel_initializer="glorot_normal")
    return conv(conv(maps))


# Every kind of layer that Keras makes of an operator.
NETWORKS = {
    "constant on the right": lambda x: x + 3.0,
    "constant on the left": lambda x: 1.0 / (tf.abs(x) + 2.0),
    "two tensors": lambda x: x * tf.sigmoid(x),
    "slice": lambda x: x[:, 1::2, ::-1, 0:2],
    "keywords": lambda x: tf.reduce_mean(x, axis=[1, 2], keepdims=True),
    "list of tensors": lambda x: tf.concat([x, x * 2.0, x], axis=-1),
    "tensor second": lambda x: tf.where(x > 0.0, 1.0, x),
    "shape": lambda x: tf.reshape(x, [tf.shape(x)[0], -1, x.shape[-1]]),
    "constant tensor": lambda x: x - tf.constant([1.0, 2.0, 3.0]),
    "argument training": lambda x: layers.Dropout(0.9)(x, training=False),
    "shared layer": shared,
    "models inside": nested,
}


def copy_layer(layer):
    return type(layer).from_config(layer.get_config())


class RebuildTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.named_parameters(NETWORKS.items())
    def test_gives_the_same_maps(self, make):
        images = tf.keras.Input([None, None, 3])
        network = tf.keras.Model(images, make(images))
        others = tf.keras.Input([None, None, 3])
        copied = layer_copies.rebuild(network.output, {id(images): others}, copy_layer)
        copy = tf.keras.Model(others, copied)
        self.assertAllEqual(copy(IMAGES, training=True), network(IMAGES, training=True))
        self.assertEqual(len(copy.weights), len(network.weights))
        for old, new in zip(network.weights, copy.weights):
            self.assertIsNot(old, new)

    def test_takes_models_apart(self):
        images = tf.keras.Input([None, None, 3])
        copied = layer_copies.rebuild(nested(images), {id(images): images}, copy_layer)
        kinds = [type(layer) for layer in tf.keras.Model(images, copied).layers]
        expected = [layers.InputLayer, layers.Conv2D, layers.ReLU, layers.Conv2D, layers.Add]
        self.assertCountEqual(kinds, expected)

    def test_keeps_the_structure(self):
        images = tf.keras.Input([None, None, 3])
        maps = {"b": images * 2.0, "a": [images + 1.0]}
        copied = layer_copies.rebuild(maps, {id(images): images}, copy_layer)
        found = tf.keras.Model(images, copied)(IMAGES)
        self.assertAllClose(found["b"], IMAGES * 2.0)
        self.assertAllClose(found["a"][0], IMAGES + 1.0)


class StockLayerTest(tf.test.TestCase):
    def test_batch_norm_is_that_of_keras(self):
        norm = SplitBatchNormalization(2, momentum=0.7, epsilon=0.1, scale=False, name="n")
        stock = layer_copies.stock_layer(norm)
        self.assertIs(type(stock), layers.BatchNormalization)
        found = (stock.momentum, stock.epsilon, stock.scale, stock.center, stock.name)
        self.assertEqual(found, (0.7, 0.1, False, True, "n"))

    def test_computes_in_float32(self):
        self.assertEqual(layer_copies.stock_layer(layers.ReLU(dtype="float16")).dtype, "float32")

    def test_changes(self):
        self.assertEqual(layer_copies.stock_layer(layers.ReLU(), name="other").name, "other")


if __name__ == "__main__":
    tf.test.main()
