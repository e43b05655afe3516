"""The newest key of every training image."""

import tensorflow as tf

from csml_tf.models import cross_replica


class KeyBank(tf.Module):
    """Keys by the index of their image, so that a neighbour's need not be computed again.

    Our option: the authors compute the neighbour's key in every step. A banked key is older by
    up to an epoch, and of another encoder by as many steps. Where an image has had none yet
    the row is zero, which no key is.

    Under a distribution strategy every replica holds the same content, because `write` is
    given the keys of all replicas on each of them.

    Args:
        num_images: of the training set.
        dim: length of a key.
        name: of the level that the keys come from.
    """

    def __init__(self, num_images, dim, name="key_bank"):
        super().__init__(name=name)
        start = tf.zeros([num_images, dim])
        self.keys = tf.Variable(start, trainable=False, name=f"{name}_keys")

    def read(self, indices):
        """[batch] integer indices of images -> [batch, dim]."""
        return tf.gather(self.keys, indices)

    def write(self, indices, keys):
        """Takes the keys [batch, dim] of the images [batch], each there once."""

        def put(variable, indices, keys):
            variable.scatter_update(tf.IndexedSlices(keys, indices))

        cross_replica.update([self.keys], put, [indices], [keys])


def has_key(keys):
    """[..., dim] rows of a bank -> [...] bool, whether there is a key."""
    return tf.reduce_any(keys != 0, axis=-1)
