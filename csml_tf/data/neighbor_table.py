"""The table of each image's nearest neighbors in the training set."""

import numpy as np
import tensorflow as tf


class NeighborTable(tf.Module):
    """For every image the indices of its neighbors, nearest first.

    A `tf.Module` with one variable, so that a checkpoint carries it and an input
    pipeline reads its newest content. Until the first `assign` every image is its
    own neighbor.

    Args:
        num_images: rows, the length of the training source.
        num_neighbors: columns; 5 in CsMl.
    """

    def __init__(self, num_images, num_neighbors):
        super().__init__(name="neighbor_table")
        own = np.repeat(np.arange(num_images, dtype=np.int32)[:, None], num_neighbors, axis=1)
        with tf.device("CPU:0"):  # The input pipeline reads it there.
            self.neighbor_indices = tf.Variable(own, trainable=False, name="neighbor_indices")
            self.mined_at_epoch = tf.Variable(-1, dtype=tf.int64, trainable=False, name="mined_at")

    def assign(self, neighbor_indices, epoch):
        """Takes over a freshly mined table.

        Args:
            neighbor_indices: [num_images, num_neighbors] integer.
            epoch: of the mining, counted from 0; kept in `mined_at_epoch`.
        """
        self.neighbor_indices.assign(tf.cast(neighbor_indices, tf.int32))
        self.mined_at_epoch.assign(epoch)

    def draw(self, indices, uniforms):
        """One neighbor of each image, all columns equally likely.

        Args:
            indices: [batch] integer, the anchors.
            uniforms: [batch] float in [0, 1), one draw each.

        Returns:
            [batch] int64 indices of the neighbors.
        """
        num_neighbors = self.neighbor_indices.shape[1]
        columns = tf.cast(uniforms * num_neighbors, tf.int64)
        # In float32 a number just below 1 can round up to the table's width.
        columns = tf.minimum(columns, num_neighbors - 1)
        rows = tf.cast(indices, tf.int64)
        drawn = tf.gather_nd(self.neighbor_indices, tf.stack([rows, columns], axis=1))
        return tf.cast(drawn, tf.int64)


def purity(neighbor_indices, labels):
    """Share of the neighbors that have their anchor's label, in [0, 1].

    Args:
        neighbor_indices: [num_images, num_neighbors] integer.
        labels: [num_images] integer.
    """
    labels = np.asarray(labels)
    return float(np.mean(labels[neighbor_indices] == labels[:, None]))


def churn(previous, current):
    """Share of the neighbors in `current` that `previous` did not have, in [0, 1].

    Args:
        previous: [num_images, num_neighbors] integer, the older table.
        current: the same, the newer one; the order within a row does not count.
    """
    kept = (current[:, :, None] == previous[:, None, :]).any(axis=2)
    return float(1.0 - kept.mean())
