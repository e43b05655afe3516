import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from scipy import stats

from csml_tf.data import neighbor_table


def random_table(seed, num_images=20, num_neighbors=5):
    rng = np.random.default_rng(seed)
    return np.stack([rng.permutation(num_images)[:num_neighbors] for _ in range(num_images)])


def make_table(neighbor_indices):
    table = neighbor_table.NeighborTable(*neighbor_indices.shape)
    table.assign(neighbor_indices, epoch=0)
    return table


class NeighborTableTest(tf.test.TestCase, parameterized.TestCase):
    def test_every_image_is_its_own_neighbor_at_first(self):
        table = neighbor_table.NeighborTable(num_images=4, num_neighbors=2)
        self.assertAllEqual(table.neighbor_indices, [[0, 0], [1, 1], [2, 2], [3, 3]])
        self.assertEqual(table.mined_at_epoch.numpy(), -1)
        self.assertAllEqual(table.draw([3, 1], tf.constant([0.9, 0.1])), [3, 1])

    def test_assign(self):
        table = neighbor_table.NeighborTable(20, 5)
        table.assign(random_table(0), epoch=15)
        self.assertAllEqual(table.neighbor_indices, random_table(0))
        self.assertEqual(table.mined_at_epoch.numpy(), 15)

    @parameterized.parameters([[[19, 5]], [[20, 4]]])
    def test_rejects_another_shape(self, shape):
        with self.assertRaisesRegex(ValueError, "[Ss]hape"):
            neighbor_table.NeighborTable(20, 5).assign(np.zeros(shape), epoch=0)

    def test_a_checkpoint_carries_it_and_no_gradient_does(self):
        table = neighbor_table.NeighborTable(4, 2)
        self.assertLen(table.variables, 2)
        self.assertEmpty(table.trainable_variables)

    @parameterized.parameters(tf.int32, tf.int64)
    def test_draw_matches_loops(self, dtype):
        indices = np.random.default_rng(1).integers(0, 20, 100)
        uniforms = np.random.default_rng(2).uniform(size=100).astype("float32")
        actual = make_table(random_table(0)).draw(tf.constant(indices, dtype), uniforms)
        expected = [random_table(0)[i, int(u * 5)] for i, u in zip(indices, uniforms)]
        self.assertAllEqual(actual, expected)
        self.assertEqual(actual.dtype, tf.int64)

    def test_columns_are_equally_likely(self):
        columns = np.tile(np.arange(5), [20, 1])
        uniforms = tf.random.stateless_uniform([10000], [0, 1])
        drawn = make_table(columns).draw(np.zeros(10000, int), uniforms)
        counts = np.bincount(drawn)
        self.assertLen(counts, 5)
        self.assertGreater(stats.chisquare(counts).pvalue, 0.001)

    @parameterized.parameters(1, 3, 5, 9)
    def test_the_ends_of_the_uniforms(self, num_neighbors):
        """The first column and the last; 1 itself is no draw, but may come of rounding."""
        table = make_table(random_table(0, num_neighbors=num_neighbors))
        ends = np.array([0.0, 1.0 - 2.0**-24, 1.0], "float32")
        first, last = random_table(0, num_neighbors=num_neighbors)[7, [0, -1]]
        self.assertAllEqual(table.draw([7, 7, 7], ends), [first, last, last])


class PurityTest(tf.test.TestCase):
    def test_matches_loops(self):
        labels = np.random.default_rng(3).integers(0, 3, 20)
        hits = [labels[j] == labels[i] for i, row in enumerate(random_table(0)) for j in row]
        self.assertAllClose(neighbor_table.purity(random_table(0), labels), np.mean(hits))
        self.assertAllClose(neighbor_table.purity(random_table(0), list(labels)), np.mean(hits))

    def test_ends(self):
        neighbor_indices = np.array([[1], [0], [3], [2]])
        self.assertEqual(neighbor_table.purity(neighbor_indices, [0, 0, 1, 1]), 1.0)
        self.assertEqual(neighbor_table.purity(neighbor_indices, [0, 1, 0, 1]), 0.0)


class ChurnTest(tf.test.TestCase):
    def test_matches_loops(self):
        previous, current = random_table(0), random_table(1)
        new = [len(set(b) - set(a)) / 5 for a, b in zip(previous, current)]
        self.assertAllClose(neighbor_table.churn(previous, current), np.mean(new))

    def test_order_does_not_count(self):
        self.assertEqual(neighbor_table.churn(random_table(0), random_table(0)[:, ::-1]), 0.0)

    def test_all_new(self):
        self.assertEqual(neighbor_table.churn(np.array([[1, 2]]), np.array([[3, 4]])), 1.0)


if __name__ == "__main__":
    tf.test.main()
