import numpy as np
import tensorflow as tf

from csml_tf.models import layer_weights


def make_model():
    layers = [tf.keras.layers.Dense(3, name="first"), tf.keras.layers.ReLU()]
    return tf.keras.Sequential([*layers, tf.keras.layers.Dense(2, name="last")])


class LayerWeightsTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.model = make_model()
        self.model.build([None, 4])
        self.weights = {
            "first": [np.full([4, 3], 2.0), np.full([3], 3.0)],
            "last": [np.full([3, 2], 4.0), np.full([2], 5.0)],
        }

    def test_all_layers_by_name(self):
        self.assertIsNone(layer_weights.set_all(self.model, self.weights))
        expected = [*self.weights["first"], *self.weights["last"]]
        for actual, value in zip(self.model.get_weights(), expected):
            self.assertAllEqual(actual, value)

    def test_one_that_does_not_fit_leaves_all_as_they_are(self):
        before = self.model.get_weights()
        for unfit in (self.weights["last"][:1], [np.zeros([2, 3]), np.zeros([2])], ()):
            weights = {**self.weights, "last": unfit}
            self.assertEqual(layer_weights.set_all(self.model, weights), "last")
        for actual, value in zip(self.model.get_weights(), before):
            self.assertAllEqual(actual, value)

    def test_one_layer(self):
        layer = self.model.get_layer("last")
        self.assertTrue(layer_weights.set_one(layer, self.weights["last"]))
        self.assertFalse(layer_weights.set_one(layer, self.weights["first"]))
        self.assertAllEqual(layer.bias, self.weights["last"][1])


if __name__ == "__main__":
    tf.test.main()
