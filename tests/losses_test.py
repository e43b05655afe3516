import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from csml_tf import losses


def unit_vectors(rng, *shape):
    vectors = rng.normal(size=shape)
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype("float32")


def loop_info_nce(queries, positives, negatives, weights, temperature):
    loss = np.zeros(len(queries))
    for i, query in enumerate(queries):
        strangers = sum(np.exp(query @ key / temperature) for key in negatives)
        for weight, key in zip(weights[i], positives[i]):
            hit = np.exp(query @ key / temperature)
            loss[i] -= weight * np.log(hit / (hit + strangers))
    return loss


def loop_gradient(queries, positives, negatives, weights, temperature):
    """Of the sum over the batch, with respect to the queries: softmax minus one-hot, by key."""
    gradient = np.zeros(queries.shape)
    for i, query in enumerate(queries):
        for weight, positive in zip(weights[i], positives[i]):
            keys = np.concatenate([positive[None], negatives]).astype("float64")
            shares = np.exp(keys @ query / temperature)
            shares /= shares.sum()
            shares[0] -= 1.0
            gradient[i] += weight * shares @ keys / temperature
    return gradient


class MultiPositiveInfoNceTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.rng = np.random.default_rng(0)
        self.queries = unit_vectors(self.rng, 5, 8)
        self.negatives = unit_vectors(self.rng, 7, 8)

    def make_inputs(self, num_positives, temperature):
        positives = unit_vectors(self.rng, 5, num_positives, 8)
        weights = self.rng.uniform(size=[5, num_positives]).astype("float32")
        return self.queries, positives, self.negatives, weights, temperature

    @parameterized.product(num_positives=[1, 2, 4], temperature=[0.05, 0.2, 1.0])
    def test_matches_loops(self, num_positives, temperature):
        inputs = self.make_inputs(num_positives, temperature)
        actual = losses.multi_positive_info_nce(*inputs)
        self.assertAllClose(actual, loop_info_nce(*inputs), rtol=1e-5)

    @parameterized.product(num_positives=[1, 3], temperature=[0.05, 0.2])
    def test_gradient_matches_loops(self, num_positives, temperature):
        inputs = self.make_inputs(num_positives, temperature)
        queries = tf.constant(self.queries)
        with tf.GradientTape() as tape:
            tape.watch(queries)
            loss = losses.multi_positive_info_nce(queries, *inputs[1:])
        self.assertAllClose(tape.gradient(loss, queries), loop_gradient(*inputs), rtol=1e-4)

    def test_one_positive_is_the_moco_loss(self):
        keys = unit_vectors(self.rng, 5, 8)
        hits = np.sum(self.queries * keys, axis=1, keepdims=True)
        logits = np.concatenate([hits, self.queries @ self.negatives.T], axis=1) / 0.2
        expected = tf.nn.sparse_softmax_cross_entropy_with_logits(np.zeros(5, int), logits)
        actual = losses.multi_positive_info_nce(
            self.queries, keys[:, None], self.negatives, np.ones([5, 1], "float32"), 0.2
        )
        self.assertAllClose(actual, expected, rtol=1e-5)

    def test_positives_do_not_compete(self):
        """A second positive adds its own loss and leaves the first one's as it is."""
        inputs = self.make_inputs(2, 0.2)
        queries, positives, negatives, weights, temperature = inputs
        apart = [
            losses.multi_positive_info_nce(
                queries, positives[:, i : i + 1], negatives, weights[:, i : i + 1], temperature
            )
            for i in range(2)
        ]
        self.assertAllClose(losses.multi_positive_info_nce(*inputs), apart[0] + apart[1])

    @parameterized.parameters((1.0, 2e5 + np.log(3.0)), (-1.0, 0.0))
    def test_extreme_logits(self, sign, expected):
        """Negatives along the query and the positive against it, and the other way round."""
        queries = tf.constant([[1.0, 0.0]])
        negatives = sign * tf.constant([[1.0, 0.0]] * 3)
        positives = -sign * tf.constant([[[1.0, 0.0]]])
        with tf.GradientTape() as tape:
            tape.watch(queries)
            loss = losses.multi_positive_info_nce(
                queries, positives, negatives, tf.ones([1, 1]), temperature=1e-5
            )
        self.assertAllClose(loss, [expected], rtol=1e-6)
        self.assertAllInRange(tape.gradient(loss, queries), -2.1e5, 2.1e5)

    @parameterized.parameters(0, -0.2)
    def test_rejects_temperature(self, temperature):
        with self.assertRaisesRegex(ValueError, f"above 0, got {temperature}"):
            losses.multi_positive_info_nce(None, None, None, None, temperature=temperature)


if __name__ == "__main__":
    tf.test.main()
