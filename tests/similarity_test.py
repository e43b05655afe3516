from unittest import mock

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from csml_tf import similarity


def small_integers(seed, *shape):
    """Features whose dot products are exact, with many ties."""
    return np.random.default_rng(seed).integers(-2, 3, shape).astype("float32")


def brute_force(queries, bank, k, query_indices=None):
    similarities = queries @ bank.T
    if query_indices is not None:
        similarities[np.arange(len(queries)), query_indices] = -np.inf
    # Stable: of equals the lower index comes first.
    indices = np.argsort(-similarities, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(similarities, indices, axis=1), indices


class CosineTopKTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.product(
        query_block=[2, 512], bank_block=[1, 3, 10, 65536], k=[1, 4, 10], own=[True, False]
    )
    def test_matches_brute_force(self, query_block, bank_block, k, own):
        bank = small_integers(0, 11, 6)
        query_indices = np.array([10, 0, 3, 3, 7]) if own else None
        queries = bank[query_indices] if own else small_integers(1, 5, 6)
        expected = brute_force(queries, bank, k, query_indices)
        with mock.patch.multiple(similarity, _QUERY_BLOCK=query_block, _BANK_BLOCK=bank_block):
            similarities, indices = similarity.cosine_top_k(queries, bank, k, query_indices)
        self.assertAllEqual(indices, expected[1])
        self.assertAllEqual(similarities, expected[0])
        self.assertEqual((similarities.dtype, indices.dtype), (np.float32, np.int32))

    @parameterized.parameters(3, 64, 65536)
    def test_unit_vectors(self, bank_block):
        bank = similarity.l2_normalize(np.random.default_rng(0).normal(size=[200, 16]))
        with mock.patch.object(similarity, "_BANK_BLOCK", bank_block):
            similarities, indices = similarity.cosine_top_k(bank, bank, 5)
        expected = brute_force(bank, bank, 5)
        self.assertAllEqual(indices, expected[1])
        self.assertAllClose(similarities, expected[0])
        self.assertAllEqual(indices[:, 0], np.arange(200))

    def test_leaves_out_itself_and_not_its_duplicates(self):
        bank = similarity.l2_normalize(small_integers(0, 4, 6))[[0, 1, 0, 2, 0, 3]]
        similarities, indices = similarity.cosine_top_k(bank, bank, 2, query_indices=np.arange(6))
        self.assertAllEqual(indices[[0, 2, 4]], [[2, 4], [0, 4], [0, 2]])
        self.assertAllClose(similarities[[0, 2, 4]], np.ones([3, 2]))
        for i, row in enumerate(indices):
            self.assertNotIn(i, row)

    def test_all_others_are_candidates(self):
        bank = small_integers(0, 5, 6)
        _, indices = similarity.cosine_top_k(bank, bank, 4, query_indices=list(range(5)))
        for i, row in enumerate(indices):
            self.assertCountEqual(row, set(range(5)) - {i})

    def test_on_block_counts_queries(self):
        counts = []
        with mock.patch.object(similarity, "_QUERY_BLOCK", 4):
            axes = np.eye(9, dtype="float32")
            similarity.cosine_top_k(axes, axes, 1, on_block=counts.append)
        self.assertEqual(counts, [4, 4, 1])

    @parameterized.parameters((0, False, 3), (4, False, 3), (3, True, 2))
    def test_rejects_k(self, k, own, candidates):
        axes = np.eye(3, dtype="float32")
        query_indices = np.arange(3) if own else None
        with self.assertRaisesRegex(ValueError, f"to the {candidates} candidates .* got {k}"):
            similarity.cosine_top_k(axes, axes, k, query_indices)


class L2NormalizeTest(tf.test.TestCase):
    def test_matches_loops(self):
        features = np.random.default_rng(0).normal(size=[5, 7]) * 100
        actual = similarity.l2_normalize(features)
        self.assertEqual(actual.dtype, np.float32)
        self.assertAllClose(actual, [row / np.sqrt(sum(row**2)) for row in features])

    def test_zero_row_stays_zero(self):
        self.assertAllEqual(
            similarity.l2_normalize([[0, 0], [3, 4]]), np.float32([[0, 0], [0.6, 0.8]])
        )


if __name__ == "__main__":
    tf.test.main()
