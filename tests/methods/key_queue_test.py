import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from csml_tf.methods import key_queue


class LoopQueue:
    """One key at a time into a list."""

    def __init__(self, rows):
        self.rows = list(rows)
        self.cursor = 0

    def enqueue(self, keys):
        for key in keys:
            self.rows[self.cursor] = key
            self.cursor = (self.cursor + 1) % len(self.rows)


class KeyQueueTest(tf.test.TestCase, parameterized.TestCase):
    def test_starts_with_random_unit_vectors(self):
        queue = key_queue.KeyQueue(num_negatives=50, dim=8, seed=3)
        self.assertAllClose(tf.norm(queue.keys, axis=1), np.ones(50))
        self.assertLess(np.abs(np.mean(queue.keys)), 0.1)
        self.assertLen(np.unique(queue.keys.numpy(), axis=0), 50)
        self.assertEqual(queue.cursor.numpy(), 0)
        self.assertAllEqual(queue.keys, key_queue.KeyQueue(50, 8, seed=3).keys)
        self.assertNotAllEqual(queue.keys, key_queue.KeyQueue(50, 8, seed=4).keys)

    def test_is_not_trainable(self):
        queue = key_queue.KeyQueue(4, 2)
        self.assertEmpty(queue.trainable_variables)
        self.assertLen(queue.variables, 2)

    @parameterized.product(
        batches=[[2] * 9, [3] * 9, [8] * 3, [5, 1, 7, 8, 2], [9, 1], [16, 3], [20, 21, 40]],
        compiled=[True, False],
    )
    def test_matches_a_list(self, batches, compiled):
        rng = np.random.default_rng(0)
        queue = key_queue.KeyQueue(num_negatives=8, dim=3)
        expected = LoopQueue(queue.keys.numpy())
        enqueue = tf.function(queue.enqueue) if compiled else queue.enqueue
        for batch in batches:
            keys = rng.normal(size=[batch, 3]).astype("float32")
            enqueue(tf.constant(keys))
            expected.enqueue(keys)
            self.assertAllEqual(queue.keys, expected.rows)
            self.assertEqual(queue.cursor.numpy(), expected.cursor)

    def test_a_queue_of_one(self):
        queue = key_queue.KeyQueue(1, 2)
        queue.enqueue(tf.constant([[1.0, 0.0], [0.0, 1.0]]))
        self.assertAllEqual(queue.keys, [[0.0, 1.0]])

    def test_rejects_zero_rows(self):
        with self.assertRaisesRegex(ValueError, "num_negatives must be at least 1, got 0"):
            key_queue.KeyQueue(0, 2)


if __name__ == "__main__":
    tf.test.main()
