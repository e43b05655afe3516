"""In which numbers the encoders compute."""

import contextlib

import tensorflow as tf

from csml_tf.errors import InputError

NAMES = ("float32", "mixed_bfloat16", "mixed_float16")


@contextlib.contextmanager
def policy(name):
    """Layers that are made inside compute as the Keras policy of this name says.

    Weights, embeddings, losses and queues are float32 always.

    Raises:
        InputError: if the name is unknown.
    """
    if name not in NAMES:
        raise InputError(f"PRECISION must be one of {', '.join(NAMES)}, got {name!r}.")
    before = tf.keras.mixed_precision.global_policy()
    tf.keras.mixed_precision.set_global_policy(name)
    try:
        yield
    finally:
        tf.keras.mixed_precision.set_global_policy(before)


def scale_loss(optimizer, name):
    """The optimizer, for float16 in a `LossScaleOptimizer`: small gradients would be 0 there.

    It doubles the scale now and then, and leaves out a step whose gradients overflow.
    """
    if name != "mixed_float16":
        return optimizer
    return tf.keras.mixed_precision.LossScaleOptimizer(optimizer)
