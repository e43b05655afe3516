import importlib.util
import sys
import unittest
from unittest import mock

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from csml_tf import approximate_search, similarity
from csml_tf.errors import InputError

needs_faiss = unittest.skipIf(
    importlib.util.find_spec("faiss") is None, "FAISS is not installed: pip install faiss-cpu"
)


def clustered(num_rows, dim, num_clusters=20, seed=0):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=[num_clusters, dim])[rng.integers(num_clusters, size=num_rows)]
    return similarity.l2_normalize(rows + 0.3 * rng.normal(size=[num_rows, dim]))


def brute_force(features, k):
    """(similarities, indices) of the k most similar others, by float64 products of all pairs."""
    products = features.astype("float64") @ features.T.astype("float64")
    np.fill_diagonal(products, -np.inf)
    indices = np.argsort(-products, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(products, indices, axis=1), indices


def share_found(found, exact):
    hits = [len(set(row) & set(wanted)) for row, wanted in zip(found, exact)]
    return sum(hits) / exact.size


def probing(num_lists, num_probes):
    return mock.patch.object(
        approximate_search, "choose_lists", lambda num_rows: (num_lists, num_probes)
    )


def index_along_axes(features, num_lists):
    """An index whose centroids are the first axes, of which one is looked through."""
    axes = np.eye(num_lists, features.shape[1], dtype="float32")
    with (
        probing(num_lists, 1),
        mock.patch.object(approximate_search, "_find_centroids", lambda *_: axes),
    ):
        return approximate_search.InvertedFile(features)


@needs_faiss
class InvertedFileTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.product(num_rows=[2, 7, 90, 500], k=[1, 5, -1])
    def test_all_lists_are_the_exact_search(self, num_rows, k):
        k = min(k, num_rows - 1) if k > 0 else num_rows - 1
        features = clustered(num_rows, 6)
        num_lists = approximate_search.choose_lists(num_rows)[0]
        with probing(num_lists, num_lists):
            similarities, indices = approximate_search.InvertedFile(features).top_k(k)
        expected = brute_force(features, k)
        self.assertEqual((similarities.dtype, indices.dtype), (np.float32, np.int32))
        self.assertEqual(indices.shape, (num_rows, k))
        self.assertAllClose(similarities, expected[0], rtol=0, atol=1e-6)
        self.assertGreater(np.mean(indices == expected[1]), 0.99)

    def test_few_lists_find_most(self):
        features = clustered(2000, 16, num_clusters=200)
        self.assertEqual(approximate_search.choose_lists(2000), (50, 32))
        similarities, indices = approximate_search.InvertedFile(features).top_k(5)
        exact = brute_force(features, 5)[1]
        self.assertBetween(share_found(indices, exact), 0.9, 1.0)
        # Rows of one list alone miss some: what is measured above is the index, not all pairs.
        with probing(50, 1):
            fewer = approximate_search.InvertedFile(features).top_k(5)[1]
        self.assertLess(share_found(fewer, exact), share_found(indices, exact))
        products = np.einsum("nd,nkd->nk", features, features[indices])
        self.assertAllClose(similarities, products, rtol=0, atol=1e-5)
        self.assertAllLessEqual(np.diff(similarities, axis=1), 0)
        for own, row in enumerate(indices):
            self.assertLen({own, *row}, 6)
        self.assertAllInRange(indices, 0, 1999)

    def test_the_same_features_give_the_same_table(self):
        features = clustered(3000, 8)
        tables = [approximate_search.InvertedFile(features).top_k(4) for _ in range(2)]
        self.assertAllEqual(tables[0][0], tables[1][0])
        self.assertAllEqual(tables[0][1], tables[1][1])

    def test_any_number_of_threads(self):
        import faiss

        self.addCleanup(faiss.omp_set_num_threads, faiss.omp_get_max_threads())
        features = clustered(3000, 8)
        tables = []
        for threads in (1, 3):
            faiss.omp_set_num_threads(threads)
            tables.append(approximate_search.InvertedFile(features).top_k(4)[1])
        self.assertAllEqual(*tables)

    def test_rows_of_a_slice_are_those_of_all(self):
        features = clustered(2000, 8)
        index = approximate_search.InvertedFile(features)
        whole = index.top_k(3)
        with mock.patch.object(approximate_search, "_ROWS_AT_ONCE", 300):
            parts = [index.top_k(3, slice(*ends)) for ends in ((0, 1), (1, 1400), (1400, 2000))]
        self.assertAllEqual(np.concatenate([part[0] for part in parts]), whole[0])
        self.assertAllEqual(np.concatenate([part[1] for part in parts]), whole[1])
        self.assertEqual(index.top_k(3, slice(5, 5))[1].shape, (0, 3))

    def test_never_itself_but_its_copies(self):
        features = clustered(400, 8)
        features[[3, 350]] = features[100]
        similarities, indices = approximate_search.InvertedFile(features).top_k(2)
        for own, others in ((3, {100, 350}), (100, {3, 350}), (350, {3, 100})):
            self.assertEqual(set(indices[own]), others)
            self.assertAllClose(similarities[own], [1, 1])

    def test_more_copies_than_neighbors(self):
        features = np.repeat(clustered(30, 8), 10, axis=0)
        _, indices = approximate_search.InvertedFile(features).top_k(4)
        for own, row in enumerate(indices):
            self.assertLen({own, *row}, 5)
            self.assertAllEqual(np.array(row) // 10, np.full(4, own // 10))

    @parameterized.parameters(1, 7, 65536)
    def test_lists_with_too_few_rows_are_filled_up(self, at_once):
        # Three groups of directions, and lists of which one is looked through.
        features = np.repeat(np.eye(3, 8, dtype="float32"), [5, 40, 60], axis=0)
        features = similarity.l2_normalize(features + 0.05 * clustered(105, 8))
        with mock.patch.object(approximate_search, "_EXACT_AT_ONCE", at_once):
            index = index_along_axes(features, num_lists=3)
            with self.assertLogs("absl", "WARNING") as logs:
                _, indices = index.top_k(20)
        self.assertRegex(
            logs.records[0].getMessage(), "^5 of 105 rows have fewer than 20 neighbors"
        )
        exact = brute_force(features, 20)[1]
        self.assertAllEqual(indices[:5], exact[:5])
        for own, row in enumerate(indices):
            self.assertLen({own, *row}, 21)
            self.assertAllInRange(row, 0, 104)

    @parameterized.parameters(0.0, 1.0)
    def test_collapsed_features(self, value):
        features = similarity.l2_normalize(np.full([200, 8], value))
        _, indices = approximate_search.InvertedFile(features).top_k(3)
        for own, row in enumerate(indices):
            self.assertLen({own, *row}, 4)
            self.assertAllInRange(row, 0, 199)

    def test_a_list_that_holds_most_rows_ends_the_query_early(self):
        features = similarity.l2_normalize(np.eye(1, 8) + 1e-3 * clustered(400, 8))
        with mock.patch.object(approximate_search, "_MOST_ROWS", 1):
            _, indices = index_along_axes(features, num_lists=4).top_k(3)
        # As many as a list has on average; the first list has all 400.
        self.assertAllInRange(indices, 0, 99)

    def test_counts_rows(self):
        features = clustered(1000, 8)
        made, looked_up = [], []
        with mock.patch.object(approximate_search, "_ROWS_AT_ONCE", 300):
            index = approximate_search.InvertedFile(features, made.append)
            index.top_k(2, slice(100, 900), looked_up.append)
        self.assertEqual(sum(made), 1000)
        self.assertGreaterEqual(min(made), 0)
        self.assertEqual(looked_up, [300, 300, 200])

    @parameterized.parameters(0, 9)
    def test_rejects_k(self, k):
        index = approximate_search.InvertedFile(clustered(9, 4))
        with self.assertRaisesRegex(ValueError, f"to the 8 other rows, got {k}"):
            index.top_k(k)

    @parameterized.parameters(np.nan, np.inf)
    def test_rejects_what_is_not_finite(self, value):
        features = clustered(90, 4)
        features[80, 2] = value
        with (
            mock.patch.object(approximate_search, "_ROWS_AT_ONCE", 50),
            self.assertRaisesRegex(ValueError, "not finite"),
        ):
            approximate_search.InvertedFile(features)


class WithoutFaissTest(tf.test.TestCase, parameterized.TestCase):
    def test_says_what_to_install(self):
        with (
            mock.patch.dict(sys.modules, {"faiss": None}),
            self.assertRaisesRegex(
                InputError,
                r"^An approximate search needs FAISS.*pip install 'csml_tf\[faiss\]', or",
            ),
        ):
            approximate_search.InvertedFile(clustered(9, 4))

    @parameterized.parameters(
        (1, 1, 1),
        (79, 1, 1),
        (80, 2, 2),
        (6000, 150, 32),
        (1_000_000, 4000, 32),
        (100_000_000, 40_000, 32),
    )
    def test_lists(self, num_rows, num_lists, num_probes):
        self.assertEqual(approximate_search.choose_lists(num_rows), (num_lists, num_probes))

    def test_recall_by_hand(self):
        # Directions of 0, 1, 3, 7 and 15 degrees: the nearest two of each are plain.
        angles = np.radians([0, 1, 3, 7, 15])
        features = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype("float32")
        table = np.array([[2, 1], [0, 2], [1, 0], [2, 1], [3, 2]])
        self.assertEqual(approximate_search.measure_recall(features, table), 1.0)
        table[:2, 1] = [4, 3]
        self.assertAlmostEqual(approximate_search.measure_recall(features, table), 0.8)
        table[4] = [0, 1]
        self.assertAlmostEqual(approximate_search.measure_recall(features, table), 0.6)

    def test_recall_of_a_sample(self):
        features = clustered(300, 8)
        table = brute_force(features, 4)[1]
        sample = approximate_search._draw(300, 50)
        self.assertLen(set(sample), 50)
        others = np.setdiff1d(np.arange(300), sample)
        table[others] = 0  # Not asked for.
        self.assertEqual(approximate_search.measure_recall(features, table, 50), 1.0)
        table[sample[:10], 1:3] = table[sample[:10], :1]
        self.assertAlmostEqual(approximate_search.measure_recall(features, table, 50), 0.9)


if __name__ == "__main__":
    tf.test.main()
