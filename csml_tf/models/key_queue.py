"""The queue of keys that serve as negatives."""

import tensorflow as tf


class KeyQueue(tf.Module):
    """A ring buffer of unit vectors, which starts random: MoCo's dictionary, arXiv:1911.05722.

    Under a distribution strategy every replica holds the same content: `enqueue`
    expects the keys of all replicas, and the first replica's write counts for all.

    Args:
        num_negatives: rows of the buffer.
        dim: length of a key.
        seed: int, for the random start.
        name: of the level that the keys come from.
    """

    def __init__(self, num_negatives, dim, seed=0, name="key_queue"):
        super().__init__(name=name)
        if num_negatives < 1:
            raise ValueError(f"num_negatives must be at least 1, got {num_negatives}.")
        start = tf.random.stateless_normal([num_negatives, dim], [seed, 0])
        shared = {
            "trainable": False,
            "synchronization": tf.VariableSynchronization.ON_WRITE,
            "aggregation": tf.VariableAggregation.ONLY_FIRST_REPLICA,
        }
        self.keys = tf.Variable(tf.math.l2_normalize(start, axis=1), name=f"{name}_keys", **shared)
        self.cursor = tf.Variable(0, dtype=tf.int64, name=f"{name}_cursor", **shared)

    def enqueue(self, keys):
        """Writes [batch, dim] over the oldest rows, wrapping round at the end.

        Of a batch longer than the queue only the newest keys stay.
        """
        num_negatives = self.keys.shape[0]
        batch = keys.shape[0]
        newest = keys[-num_negatives:]
        skipped = batch - newest.shape[0]
        rows = (self.cursor + skipped + tf.range(newest.shape[0], dtype=tf.int64)) % num_negatives
        self.keys.scatter_update(tf.IndexedSlices(newest, rows))
        self.cursor.assign((self.cursor + batch) % num_negatives)
