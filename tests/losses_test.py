import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from csml_tf import losses
from tests.methods import loop_losses


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

    def test_negatives_by_query(self):
        queries, positives, negatives, weights, temperature = self.make_inputs(2, 0.2)
        is_negative = self.rng.uniform(size=[5, 7]) < 0.5
        is_negative[0] = False
        actual = losses.multi_positive_info_nce(
            queries, positives, negatives, weights, temperature, is_negative
        )
        expected = [
            loop_info_nce(
                *(queries[i : i + 1], positives[i : i + 1], negatives[is_negative[i]]),
                *(weights[i : i + 1], temperature),
            )[0]
            for i in range(5)
        ]
        self.assertEqual(float(actual[0]), 0.0)
        self.assertAllClose(actual, expected, rtol=1e-5)

    def test_nt_xent_of_pytorch(self):
        torch = pytest.importorskip("torch")
        views = unit_vectors(self.rng, 8, 6)  # Rows 2 i and 2 i + 1 are of one image.
        logits = torch.tensor(views @ views.T / 0.5)
        logits.fill_diagonal_(float("-inf"))
        others = torch.arange(8).view(4, 2).flip(1).reshape(-1)
        expected = torch.nn.functional.cross_entropy(logits, others, reduction="none")
        images = np.arange(8) // 2
        actual = losses.multi_positive_info_nce(
            *(views, views[others][:, None], views, np.ones([8, 1], "float32"), 0.5),
            images[:, None] != images[None],
        )
        self.assertAllClose(actual, expected.numpy(), rtol=1e-5)


class MultiPositiveDistanceTest(tf.test.TestCase):
    def test_matches_loops(self):
        rng = np.random.default_rng(0)
        queries, positives = unit_vectors(rng, 4, 6), unit_vectors(rng, 4, 3, 6)
        weights = rng.uniform(size=[4, 3]).astype("float32")
        expected = [
            sum(weights[i, p] * np.sum((queries[i] - positives[i, p]) ** 2) for p in range(3))
            for i in range(4)
        ]
        actual = losses.multi_positive_distance(queries, positives, weights)
        self.assertAllClose(actual, expected, rtol=1e-5)


class MultiCodeCrossEntropyTest(tf.test.TestCase, parameterized.TestCase):
    def test_matches_loops(self):
        rng = np.random.default_rng(0)
        scores = rng.normal(size=[4, 5]).astype("float32")
        codes = rng.dirichlet(np.ones(5), size=[4, 2]).astype("float32")
        weights = rng.uniform(size=[4, 2]).astype("float32")
        expected = np.zeros(4)
        for i in range(4):
            shares = np.exp(scores[i] / 0.3) / np.exp(scores[i] / 0.3).sum()
            for p in range(2):
                for k in range(5):
                    expected[i] -= weights[i, p] * codes[i, p, k] * np.log(shares[k])
        actual = losses.multi_code_cross_entropy(scores, codes, weights, 0.3)
        self.assertAllClose(actual, expected, rtol=1e-5)

    @parameterized.parameters(0, -0.2)
    def test_rejects_temperature(self, temperature):
        with self.assertRaisesRegex(ValueError, f"above 0, got {temperature}"):
            losses.multi_code_cross_entropy(None, None, None, temperature)


class SinkhornCodesTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.product(epsilon=[0.05, 0.5], iterations=[1, 3])
    def test_matches_loops(self, epsilon, iterations):
        scores = np.random.default_rng(0).uniform(-1, 1, size=[7, 5]).astype("float32")
        actual = losses.sinkhorn_codes(scores, epsilon, iterations)
        self.assertAllClose(
            actual, loop_losses.sinkhorn(scores, epsilon, iterations), rtol=1e-4, atol=1e-7
        )

    def test_prototypes_are_used_alike(self):
        scores = np.random.default_rng(0).uniform(-1, 1, size=[12, 4]).astype("float32")
        codes = losses.sinkhorn_codes(scores + [2.0, 0.0, 0.0, 0.0], 0.5, 200)
        self.assertAllClose(tf.reduce_sum(codes, axis=0), [3.0] * 4, rtol=1e-4)
        self.assertAllClose(tf.reduce_sum(codes, axis=1), [1.0] * 12, rtol=1e-5)

    def test_rows_out_of_use(self):
        scores = np.random.default_rng(0).uniform(-1, 1, size=[6, 3]).astype("float32")
        is_used = np.array([True, False, True, True, False, True])
        codes = losses.sinkhorn_codes(scores, 0.1, 3, is_used)
        self.assertAllClose(codes[~is_used], np.zeros([2, 3]))
        self.assertAllClose(
            codes[is_used], loop_losses.sinkhorn(scores[is_used], 0.1, 3), rtol=1e-4, atol=1e-7
        )

    def test_extreme_scores(self):
        codes = losses.sinkhorn_codes([[1.0, -1.0], [-1.0, 1.0]], 0.02, 3)
        self.assertAllClose(codes, np.eye(2))
        # The second row is far from both prototypes: e^-190 of what the first one has.
        scores = np.float32([[1.0, 0.99], [-0.9, -0.91]])
        codes = losses.sinkhorn_codes(scores, 0.01, 3)
        self.assertAllClose(codes, loop_losses.sinkhorn(scores, 0.01, 3), rtol=1e-3)

    @parameterized.parameters((0.0, 3), (0.05, 0))
    def test_rejects(self, epsilon, iterations):
        with self.assertRaisesRegex(ValueError, "epsilon must be above 0 and num_iterations"):
            losses.sinkhorn_codes(None, epsilon, iterations)


if __name__ == "__main__":
    tf.test.main()
