import numpy as np
import tensorflow as tf

from csml_tf.models import untrained_copy


def make_network():
    """Two convolutions of one shape, the second in a model inside; weights of no use."""
    x = tf.keras.Input([None, None, 8])
    y = tf.keras.layers.Conv2D(8, 3, use_bias=False, kernel_initializer="he_normal", name="c")(x)
    inner = tf.keras.Model(x, tf.keras.layers.BatchNormalization()(y))
    images = tf.keras.Input([None, None, 8])
    conv = tf.keras.layers.Conv2D(8, 3, kernel_initializer="he_normal", name="c")
    outputs = {"deep": inner(conv(images)), "flat": conv.output}
    network = tf.keras.Model(images, outputs)
    network.set_weights([np.full(w.shape, 7.0) for w in network.get_weights()])
    return network


class MakeTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.network = make_network()
        self.images = tf.random.stateless_uniform([4, 9, 9, 8], [0, 0])

    def test_weights_are_as_their_initializers_draw_them(self):
        copy = untrained_copy.make(self.network, 0)
        kernels = [w for w in copy.get_weights() if w.ndim == 4]
        self.assertLen(kernels, 2)
        for kernel in kernels:  # he_normal: deviation sqrt(2 / fan in).
            self.assertBetween(np.std(kernel), 0.9 * (2 / 72) ** 0.5, 1.1 * (2 / 72) ** 0.5)
        self.assertNotAllClose(*kernels)
        others = sorted(np.unique(w).tolist() for w in copy.get_weights() if w.ndim == 1)
        # Bias, beta and moving mean; gamma and moving variance.
        self.assertEqual(others, [[0.0]] * 3 + [[1.0]] * 2)
        made = copy(self.images, training=False)
        self.assertEqual(made["deep"].shape, [4, 5, 5, 8])
        self.assertEqual(made["flat"].shape, [4, 7, 7, 8])

    def test_a_function_of_the_seed_that_moves_no_other(self):
        copies = []
        for seed in (3, 3, 4):
            tf.keras.utils.set_random_seed(len(copies))
            copies.append(untrained_copy.make(self.network, seed)(self.images)["deep"])
        self.assertAllEqual(copies[0], copies[1])
        self.assertNotAllClose(copies[0], copies[2])

        def draw(between):
            tf.keras.utils.set_random_seed(5)
            between()
            layer = tf.keras.layers.Dense(3)
            layer.build([None, 4])
            return [*layer.get_weights(), tf.random.uniform([3]), np.random.uniform(size=3)]

        alone = draw(lambda: None)
        for one, other in zip(alone, draw(lambda: untrained_copy.make(self.network, 1))):
            self.assertAllEqual(one, other)

    def test_draw_weights_in_the_order_of_the_model(self):
        expected = untrained_copy.make(self.network, 2)(self.images, training=False)
        self.network.beside = tf.keras.layers.Dense(1)
        self.network.beside.build([None, 2])
        beside = self.network.beside.get_weights()[0]
        self.network.set_weights(untrained_copy.draw_weights(self.network, 2))
        for name, made in self.network(self.images, training=False).items():
            self.assertAllClose(made, expected[name], rtol=1e-5, atol=1e-5)
        self.assertAllEqual(self.network.beside.get_weights()[0], beside)

    def test_rejects_what_has_no_known_layers(self):
        class Subclass(tf.keras.Model):
            pass

        with self.assertRaisesRegex(ValueError, "is no functional model"):
            untrained_copy.make(Subclass(), 0)


if __name__ == "__main__":
    tf.test.main()
