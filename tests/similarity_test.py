import contextlib
import itertools
from unittest import mock

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from csml_tf import similarity


def small_integers(seed, *shape):
    """Features whose dot products are exact, with many ties, zeros and negative ones."""
    return np.random.default_rng(seed).integers(-2, 3, shape).astype("float32")


def unit_vectors(seed, *shape):
    return similarity.l2_normalize(np.random.default_rng(seed).normal(size=shape))


def brute_force(queries, bank, k, query_indices=None):
    similarities = queries @ bank.T
    if query_indices is not None:
        similarities[np.arange(len(queries)), query_indices] = -np.inf
    # Stable: of equals the lower index comes first.
    indices = np.argsort(-similarities, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(similarities, indices, axis=1), indices


@contextlib.contextmanager
def machine(dtype=tf.bfloat16, block=2048, dense_share=1 / 32, has_gpu=False):
    """As on a machine that multiplies faster in `dtype`, with blocks of `block` rows."""
    with mock.patch.multiple(
        similarity,
        _BLOCK=block,
        _GPU_BLOCK=block,
        _DENSE_SHARE=dense_share,
        _quicker_dtype=lambda: dtype,
        _has_gpu=lambda: has_gpu,
    ):
        yield


# Both formats, pairs one by one and blocks as a whole, and the comparison on a device.
MACHINES = [
    {"dtype": tf.bfloat16, "dense_share": 1.0},
    {"dtype": tf.bfloat16, "dense_share": 0.0},
    {"dtype": tf.float32, "dense_share": 1 / 32},
    {"dtype": tf.bfloat16, "dense_share": 1.0, "has_gpu": True},
]


class CosineTopKTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.product(block=[2, 3, 2048], k=[1, 4, 10], own=[True, False])
    def test_matches_brute_force(self, block, k, own):
        bank = small_integers(0, 11, 6)
        query_indices = np.array([10, 0, 3, 3, 7]) if own else None
        queries = bank[query_indices] if own else small_integers(1, 5, 6)
        expected = brute_force(queries, bank, k, query_indices)
        for settings in MACHINES:
            with self.subTest(**settings), machine(block=block, **settings):
                similarities, indices = similarity.cosine_top_k(queries, bank, k, query_indices)
                self.assertAllEqual(indices, expected[1])
                self.assertAllEqual(similarities, expected[0])
                self.assertEqual((similarities.dtype, indices.dtype), (np.float32, np.int32))

    @parameterized.product(block=[16, 64, 2048], dtype=[tf.bfloat16, tf.float32])
    def test_unit_vectors(self, block, dtype):
        bank = unit_vectors(0, 200, 17)
        with machine(dtype, block):
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

    def test_queries_that_are_not_in_the_bank(self):
        bank = np.eye(4, dtype="float32")
        _, indices = similarity.cosine_top_k(bank, bank, 1, query_indices=[-1, 1, -1, 3])
        self.assertAllEqual(indices[:, 0], [0, 0, 2, 0])

    def test_all_others_are_candidates(self):
        bank = small_integers(0, 5, 6)
        _, indices = similarity.cosine_top_k(bank, bank, 4, query_indices=list(range(5)))
        for i, row in enumerate(indices):
            self.assertCountEqual(row, set(range(5)) - {i})

    def test_a_winner_below_two_whom_rounding_raises(self):
        # In bfloat16 the first two seem 7.5 steps nearer than the third, which is the nearest.
        step = 2.0**-8
        up, down = 1 + step * np.array([1.05, 0.95])
        query = np.float32([[up, down, 1, 1]])
        raised = [up, -down, 0, 16 * step]
        bank = np.float32([raised, raised, [-up, down, step / 2, 16 * step]])
        self.assertAllEqual(brute_force(query, bank, 1)[1], [[2]])
        for settings in MACHINES:
            with self.subTest(**settings), machine(**settings):
                self.assertAllEqual(similarity.cosine_top_k(query, bank, 1)[1], [[2]])

    def test_no_queries(self):
        similarities, indices = similarity.cosine_top_k(np.zeros([0, 3]), np.eye(3), 2)
        self.assertEqual((similarities.shape, indices.shape), ((0, 2), (0, 2)))

    def test_on_block_counts_queries(self):
        counts = []
        axes = np.eye(9, dtype="float32")
        with machine(block=4):
            similarity.cosine_top_k(axes[:7], axes, 1, on_block=counts.append)
        # Four queries with four, four and one of the bank, then three queries likewise.
        self.assertEqual(list(np.cumsum(counts)), [1, 3, 4, 5, 6, 7])

    @parameterized.parameters((0, False, 3), (4, False, 3), (3, True, 2))
    def test_rejects_k(self, k, own, candidates):
        axes = np.eye(3, dtype="float32")
        query_indices = np.arange(3) if own else None
        with self.assertRaisesRegex(ValueError, f"to the {candidates} candidates .* got {k}"):
            similarity.cosine_top_k(axes, axes, k, query_indices)

    @parameterized.product(value=[np.nan, np.inf], where=["queries", "bank"])
    def test_rejects_what_is_not_finite(self, value, where):
        features = {"queries": np.eye(5, dtype="float32"), "bank": np.eye(5, dtype="float32")}
        features[where][3, 1] = value
        with machine(block=2), self.assertRaisesRegex(ValueError, "not finite"):
            similarity.cosine_top_k(**features, k=1)


class MutualTopKTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.product(num_images=[2, 8, 9, 13], block=[1, 3, 2048], k=[1, 2, -1])
    def test_matches_brute_force(self, num_images, block, k):
        k = min(k, num_images - 1) if k > 0 else num_images - 1
        features = small_integers(num_images, num_images, 5)
        expected = brute_force(features, features, k, np.arange(num_images))
        for settings in MACHINES:
            with self.subTest(**settings), machine(block=block, **settings):
                similarities, indices = similarity.mutual_top_k(features, k)
                self.assertAllEqual(indices, expected[1])
                self.assertAllEqual(similarities, expected[0])
                self.assertEqual((similarities.dtype, indices.dtype), (np.float32, np.int32))

    @parameterized.product(
        k=[1, 5, 40, 299], block=[64, 100, 2048], dtype=[tf.bfloat16, tf.float32]
    )
    def test_near_neighbors_in_clusters(self, k, block, dtype):
        # Ten clusters, within which similarities differ by less than bfloat16 can tell.
        features = similarity.l2_normalize(
            unit_vectors(0, 10, 17)[np.arange(300) % 10] + 0.02 * unit_vectors(1, 300, 17)
        )
        exact = features.astype("float64") @ features.T
        expected, _ = brute_force(exact, np.eye(300), k, np.arange(300))
        with machine(dtype, block):
            similarities, indices = similarity.mutual_top_k(features, k)
        self.assertAllClose(similarities, expected, rtol=0, atol=1e-6)
        self.assertAllClose(np.take_along_axis(exact, indices, axis=1), expected, rtol=0, atol=1e-6)
        for i, row in enumerate(indices):
            self.assertNotIn(i, row)
            self.assertLen(set(row), k)

    @parameterized.product(block=[2, 3, 2048], positive=[True, False])
    def test_a_winner_that_rounding_hides(self, block, positive):
        # The last is everybody's nearest, but rounded to bfloat16 they are all 1. In three columns
        # the products, about 3, are far enough apart for bfloat16.
        features = 1 + 2.0**-8 * np.float32([0.90, 0.91, 0.90, 0.92, 0.91, 0.99])
        features = np.repeat(features[:, None], 3, axis=1)
        features = features if positive else np.concatenate([features, -features])
        expected = brute_force(features, features, 1, np.arange(len(features)))
        for settings in MACHINES:
            with self.subTest(**settings), machine(block=block, **settings):
                self.assertAllEqual(similarity.mutual_top_k(features, 1)[1], expected[1])

    def test_a_winner_that_rounding_hides_from_the_later_row(self):
        # The last row's nearest is the third, which has a nearer one and does not seek the last.
        low, high = 1 + 2.0**-8 * np.array([0.90, 0.99])
        features = np.float32(
            [[low, low, low, 0], [0, 0, 0, 10], [high, high, high, 10], [low, low, low, 0]]
        )
        expected = brute_force(features, features, 1, np.arange(4))[1]
        self.assertAllEqual(expected, [[2], [2], [1], [2]])
        for settings in MACHINES:
            with self.subTest(**settings), machine(block=1, **settings):
                self.assertAllEqual(similarity.mutual_top_k(features, 1)[1], expected)

    @parameterized.parameters(1, 2, 5, 2048)
    def test_identical_rows(self, block):
        for settings in MACHINES:
            with self.subTest(**settings), machine(block=block, **settings):
                similarities, indices = similarity.mutual_top_k(np.ones([7, 4]) / 2, 3)
                self.assertAllEqual(
                    indices, [[i for i in range(7) if i != own][:3] for own in range(7)]
                )
                self.assertAllEqual(similarities, np.ones([7, 3]))

    def test_zero_rows_and_either_zero(self):
        # -0 and 0 are one similarity: the lower index comes first.
        features = np.float32([[1, 0], [-0.0, 1], [0, -1], [0, 0], [-1, 0]])
        for block, settings in itertools.product([1, 2, 2048], MACHINES):
            with self.subTest(block=block, **settings), machine(block=block, **settings):
                indices = similarity.mutual_top_k(features, 3)[1]
                self.assertAllEqual(indices[0], [1, 2, 3])
                self.assertAllEqual(indices[3], [0, 1, 2])

    def test_only_few_pairs_are_computed_twice(self):
        features = unit_vectors(0, 600, 32)
        computed = []
        dots = similarity._Proposals._dots

        def counted(proposals, rows, columns, workspace):
            computed.extend(zip(rows.tolist(), columns.tolist()))
            return dots(proposals, rows, columns, workspace)

        with (
            machine(block=100, dense_share=1.0),
            mock.patch.object(similarity._Proposals, "_dots", counted),
        ):
            similarity.mutual_top_k(features, 2)
        self.assertNotEmpty(computed)
        self.assertLen(set(computed), len(computed))
        self.assertLess(len(computed), 0.1 * 600 * 599 / 2)

    def test_what_is_kept_in_the_coarse_format(self):
        features = unit_vectors(0, 10, 4)
        kept = {}
        for dtype, uses in itertools.product([tf.bfloat16, tf.float32], [1, 2]):
            with machine(dtype, block=4):
                kept[dtype, uses] = len(similarity._Coarse(features, dtype, uses)._kept)
        # float32 is there already, and what is used once need not stay.
        expected = {(tf.bfloat16, 1): 0, (tf.bfloat16, 2): 3, (tf.float32, 1): 0}
        self.assertEqual(kept, {**expected, (tf.float32, 2): 0})

    def test_more_pairs_than_are_gathered_at_once(self):
        features = unit_vectors(0, 50, 9)
        expected = brute_force(features, features, 49, np.arange(50))
        with machine(dense_share=1.0), mock.patch.object(similarity, "_PAIRS_AT_ONCE", 7):
            similarities, indices = similarity.mutual_top_k(features, 49)
        self.assertAllEqual(indices, expected[1])
        self.assertAllClose(similarities, expected[0])

    @parameterized.parameters(1, 4, 9, 2048)
    def test_on_block_counts_rows(self, block):
        counts = []
        with machine(block=block):
            similarity.mutual_top_k(np.eye(9), 1, on_block=counts.append)
        num_blocks = -(-9 // block)
        self.assertLen(counts, num_blocks * (num_blocks + 1) // 2)
        self.assertEqual(sum(counts), 9)
        self.assertGreaterEqual(min(counts), 0)

    @parameterized.parameters(0, 3)
    def test_rejects_k(self, k):
        with self.assertRaisesRegex(ValueError, f"to the 2 candidates .* got {k}"):
            similarity.mutual_top_k(np.eye(3), k)


class QuickerDtypeTest(tf.test.TestCase, parameterized.TestCase):
    def test_is_one_of_the_two(self):
        self.assertIn(similarity._quicker_dtype(), [tf.bfloat16, tf.float32])

    @parameterized.parameters("wrong", "refused")
    def test_never_a_format_whose_products_are(self, fault):
        matmul = tf.matmul

        def faulty(left, right, transpose_b):
            products = matmul(left, right, transpose_b=transpose_b)
            if left.dtype != tf.bfloat16:
                return products
            if fault == "refused":
                raise tf.errors.UnimplementedError(None, None, "bfloat16")
            return products * tf.constant(1.02, tf.bfloat16)

        with mock.patch.object(tf, "matmul", faulty):
            self.assertEqual(similarity._quicker_dtype.__wrapped__(), tf.float32)


class KeysTest(tf.test.TestCase):
    def test_sort_by_similarity_then_by_lower_index(self):
        similarities = np.float32([-np.inf, -2, -2, -1e-40, 0, -0.0, 1e-40, 0.5, 1, 1])
        indices = np.array([0, 7, 3, 0, 2**31 - 2, 5, 9, 0, 2, 1])
        keys = similarity._pack(similarities, indices)
        self.assertAllEqual(np.argsort(keys), np.arange(10))
        self.assertAllEqual(similarity._unpack(keys)[0], similarities)
        self.assertAllEqual(similarity._unpack(keys)[1], indices)
        self.assertLess(similarity._NOTHING, keys.min())


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

    def test_in_place(self):
        features = small_integers(0, 50, 6) * 3
        features[4] = 0
        expected = similarity.l2_normalize(features)
        with machine(block=16):
            similarity.l2_normalize_in_place(features)
        self.assertAllEqual(features, expected)
        with self.assertRaisesRegex(ValueError, "float32, got float64"):
            similarity.l2_normalize_in_place(np.eye(3))


if __name__ == "__main__":
    tf.test.main()
