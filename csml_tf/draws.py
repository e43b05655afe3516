"""Random numbers of a training step: a function of a seed, the same on every device.

TensorFlow's own uniform floats and shuffles differ between compiled and uncompiled code, or
do not compile at all; the integers of one named generator do neither.
"""

import tensorflow as tf

_GENERATOR = "philox"


def fold_in(seed, *numbers):
    """A new seed from a seed and what it is for.

    Args:
        seed: [2] integer.
        *numbers: integers, or scalar integer tensors.

    Returns:
        [2] integer of the dtype of `seed`.
    """
    for number in numbers:
        seed = tf.random.experimental.stateless_fold_in(seed, number, alg=_GENERATOR)
    return seed


def uniform(shape, seed):
    """float32 in [0, 1), multiples of 2^-24."""
    bits = tf.random.stateless_uniform(
        shape, seed, minval=None, maxval=None, dtype=tf.uint32, alg=_GENERATOR
    )
    return tf.cast(tf.bitwise.right_shift(bits, tf.constant(8, tf.uint32)), tf.float32) * 2.0**-24


def permutation(length, seed):
    """The numbers from 0 to `length` - 1 in random order, [length] int32."""
    return tf.argsort(uniform([length], seed), stable=True)
