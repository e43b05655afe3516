import numpy as np
import tensorflow as tf

from csml_tf.methods import momentum_encoder
from csml_tf.models import encoder
from csml_tf.models.backbones import resnet


def make_encoder():
    return encoder.MultiLevelEncoder(
        lambda: resnet.make_resnet(18, width=2, stem="cifar"), {"stage3": 4, "stage4": 3}
    )


class MomentumEncoderTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.rng = np.random.default_rng(0)
        self.query = make_encoder()
        self.disturb(self.query.variables)
        self.key = momentum_encoder.MomentumEncoder(make_encoder, self.query)
        self.images = self.rng.normal(size=[4, 16, 16, 3]).astype("float32")

    def disturb(self, variables):
        for variable in variables:
            variable.assign(self.rng.uniform(0.5, 1.5, variable.shape))

    def test_starts_as_a_copy(self):
        for query, key in zip(self.query.weights, self.key.encoder.weights):
            self.assertAllEqual(key, query)
            self.assertIsNot(key, query)
        expected = self.query(self.images, training=False)
        actual = self.key(self.images, training=False)
        self.assertAllClose(actual, expected)

    def test_averages_the_trainable_parameters(self):
        averages = [key.numpy() for key in self.key.encoder.trainable_variables]
        for decay in (0.9, 0.5, 0.999):
            self.disturb(self.query.trainable_variables)
            self.key.update(decay)
            queries = self.query.trainable_variables
            averages = [decay * a + (1 - decay) * q.numpy() for a, q in zip(averages, queries)]
        self.assertAllClose(self.key.encoder.trainable_variables, averages, rtol=1e-5)

    def test_leaves_the_moving_statistics_alone(self):
        before = [value.numpy() for value in self.key.encoder.non_trainable_variables]
        self.assertNotEmpty(before)
        self.disturb(self.query.variables)
        self.key.update(0.5)
        for value, start in zip(self.key.encoder.non_trainable_variables, before):
            self.assertAllEqual(value, start)

    def test_moving_statistics_are_fed_by_the_keys(self):
        before = [value.numpy() for value in self.query.non_trainable_variables]
        self.key(self.images, training=True)
        own = self.key.encoder.non_trainable_variables
        for query, key, start in zip(self.query.non_trainable_variables, own, before):
            self.assertAllEqual(query, start)
            self.assertNotAllClose(key, start)

    def test_no_gradient(self):
        with tf.GradientTape() as tape:
            total = sum(tf.reduce_sum(v) for v in self.key(self.images, training=True).values())
        variables = self.key.encoder.trainable_variables + self.query.trainable_variables
        self.assertEqual(tape.gradient(total, variables), [None] * len(variables))


if __name__ == "__main__":
    tf.test.main()
