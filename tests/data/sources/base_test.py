import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from csml_tf.data.sources import base, memory


class SubsetSourceTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        images = np.arange(6, dtype=np.uint8).reshape(6, 1, 1)
        self.source = memory.MemorySource(images, [5, 4, 3, 2, 1, 0], name="six")

    def test_subset_of_subset_indexes_the_subset(self):
        subset = self.source.subset([4, 2, 0]).subset([2, 0])
        self.assertAllEqual(subset.read([0, 1])[:, 0, 0, 0], [0, 4])
        self.assertAllEqual(subset.labels, [5, 1])

    def test_names(self):
        self.assertEqual(self.source.subset([1, 2]).name, "six[2 of 6]")
        self.assertEqual(self.source.subset([1, 2], "mine").name, "mine")

    def test_empty_subset(self):
        self.assertLen(self.source.subset([]), 0)

    @parameterized.parameters([[[6]], [[-1]], [[True] * 6], [[0.5]], [[[0]]]])
    def test_rejects(self, indices):
        with self.assertRaisesRegex(ValueError, "indices must be"):
            self.source.subset(indices)


class DigestTest(tf.test.TestCase):
    def test_depends_on_shape_and_content(self):
        zeros = np.zeros([2, 3], np.uint8)
        digests = {base.digest(zeros), base.digest(zeros.T), base.digest(zeros + 1)}
        self.assertLen(digests, 3)
        self.assertEqual(base.digest(zeros), base.digest(zeros.copy()))


if __name__ == "__main__":
    tf.test.main()
