"""Which devices a run uses."""

import tensorflow as tf

from csml_tf.errors import InputError

NAMES = ("auto", "none", "mirrored")


def make(name):
    """A `tf.distribute.Strategy` by name; call it before any other TensorFlow operation.

    Args:
        name: "none" (one device), "mirrored" (every GPU of this machine) or "auto"
            ("mirrored" with more than one GPU, else "none").

    Raises:
        InputError: if the name is unknown or the devices cannot be used.
    """
    if name not in NAMES:
        raise InputError(f"--strategy must be one of {', '.join(NAMES)}, got {name!r}.")
    if name == "auto":
        name = "mirrored" if len(tf.config.list_physical_devices("GPU")) > 1 else "none"
    if name == "none":
        return tf.distribute.get_strategy()
    strategy = tf.distribute.MirroredStrategy()
    return strategy
