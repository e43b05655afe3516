"""The queue of keys that serve as negatives."""

import tensorflow as tf

from csml_tf.models import cross_replica


class KeyQueue(tf.Module):
    """A ring buffer of unit vectors, which starts random: MoCo's dictionary, arXiv:1911.05722.

    Under a distribution strategy every replica holds the same content, because `enqueue`
    is given the keys of all replicas on each of them.

    Args:
        num_negatives: rows of the buffer.
        dim: length of a key.
        seed: int or pair of ints, for the random start.
        name: of the level that the keys come from.
    """

    def __init__(self, num_negatives, dim, seed=0, name="key_queue"):
        super().__init__(name=name)
        if num_negatives < 1:
            raise ValueError(f"num_negatives must be at least 1, got {num_negatives}.")
        seed = [seed, 0] if isinstance(seed, int) else list(seed)
        start = tf.math.l2_normalize(tf.random.stateless_normal([num_negatives, dim], seed), axis=1)
        self.keys = tf.Variable(start, trainable=False, name=f"{name}_keys")
        self.cursor = tf.Variable(0, dtype=tf.int64, trainable=False, name=f"{name}_cursor")

    def enqueue(self, keys):
        """Writes [batch, dim] over the oldest rows, wrapping round at the end.

        Of a batch longer than the queue only the newest keys stay.
        """
        num_negatives = self.keys.shape[0]
        batch = keys.shape[0]
        newest = keys[-num_negatives:]
        skipped = batch - newest.shape[0]
        rows = tf.range(skipped, batch, dtype=tf.int64)
        rows = (self.cursor + rows) % num_negatives

        def write(variable, newest, rows):
            variable.scatter_update(tf.IndexedSlices(newest, rows))

        def move(variable):
            variable.assign((variable + batch) % num_negatives)

        cross_replica.update([self.keys], write, [newest], [rows])
        cross_replica.update([self.cursor], move)
