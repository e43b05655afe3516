import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from csml_tf.models.split_batch_norm import SplitBatchNormalization

CONSTANTS = {"momentum": 0.9, "epsilon": 1e-5}


class SplitBatchNormalizationTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        rng = np.random.default_rng(0)
        # Every image has its own mean and spread, so that groups differ.
        scales, shifts = rng.uniform(0.5, 3.0, [2, 12, 1, 1, 1])
        self.images = (rng.normal(size=[12, 3, 4, 5]) * scales + shifts).astype("float32")
        self.weights = [rng.uniform(0.5, 2.0, 5).astype("float32") for _ in range(4)]

    def make(self, layer):
        layer.build([None, 3, 4, 5])
        layer.set_weights(self.weights)  # Gamma, beta, moving mean, moving variance.
        return layer

    @parameterized.product(num_groups=[1, 2, 3, 6], compiled=[True, False])
    def test_training_is_stock_batch_norm_on_each_group(self, num_groups, compiled):
        layer = self.make(SplitBatchNormalization(num_groups, **CONSTANTS))
        run = tf.function(layer) if compiled else layer
        actual = run(self.images, training=True)
        outputs, stocks = [], []
        for group in np.split(self.images, num_groups):
            stocks.append(self.make(tf.keras.layers.BatchNormalization(**CONSTANTS)))
            outputs.append(stocks[-1](group, training=True))
        self.assertAllClose(actual, np.concatenate(outputs), rtol=1e-5, atol=1e-5)
        for name in ("moving_mean", "moving_variance"):
            expected = np.mean([getattr(stock, name) for stock in stocks], axis=0)
            self.assertAllClose(getattr(layer, name), expected, rtol=1e-5)
            self.assertNotAllClose(getattr(layer, name), self.weights[2 + name.endswith("ance")])

    def test_groups_matter(self):
        one, two = (self.make(SplitBatchNormalization(n, **CONSTANTS)) for n in (1, 2))
        difference = one(self.images, training=True) - two(self.images, training=True)
        self.assertGreater(np.abs(difference).max(), 0.1)

    @parameterized.parameters(False, None)
    def test_inference_is_stock_batch_norm(self, training):
        layer = self.make(SplitBatchNormalization(3, **CONSTANTS))
        stock = self.make(tf.keras.layers.BatchNormalization(**CONSTANTS))
        images = self.images[:7]  # No multiple of the groups is needed.
        self.assertAllEqual(layer(images, training=training), stock(images, training=False))
        for actual, weights in zip(layer.get_weights(), self.weights):
            self.assertAllEqual(actual, weights)

    def test_gradient_is_that_of_the_groups(self):
        layer = self.make(SplitBatchNormalization(2, **CONSTANTS))
        stock = self.make(tf.keras.layers.BatchNormalization(**CONSTANTS))
        cotangent = np.random.default_rng(1).normal(size=self.images.shape).astype("float32")

        def gradients(run, layer):
            images = tf.constant(self.images)
            with tf.GradientTape() as tape:
                tape.watch(images)
                outputs = run(images)
            return tape.gradient(outputs, [images, layer.gamma, layer.beta], cotangent)

        actual = gradients(lambda images: layer(images, training=True), layer)
        expected = gradients(
            lambda images: tf.concat([stock(images[:6], True), stock(images[6:], True)], 0), stock
        )
        self.assertAllClose(actual, expected, rtol=1e-4, atol=1e-4)

    def test_rejects_an_uneven_batch(self):
        layer = self.make(SplitBatchNormalization(5, **CONSTANTS))
        with self.assertRaisesRegex((ValueError, tf.errors.InvalidArgumentError), "12"):
            layer(self.images, training=True)

    def test_config(self):
        config = SplitBatchNormalization(3, **CONSTANTS).get_config()
        again = SplitBatchNormalization.from_config(config)
        self.assertEqual((again.num_groups, again.momentum, again.epsilon), (3, 0.9, 1e-5))

    def test_rejects_zero_groups(self):
        with self.assertRaisesRegex(ValueError, "num_groups must be at least 1, got 0"):
            SplitBatchNormalization(0)


if __name__ == "__main__":
    tf.test.main()
