"""Which devices a run uses."""

import tensorflow as tf
from absl import logging

from csml_tf.errors import InputError

NAMES = ("auto", "none", "mirrored")


def make(name):
    """A `tf.distribute.Strategy` by name; call it before any other TensorFlow operation.

    Args:
        name: "none" (one device), "mirrored" (every GPU of this machine) or "auto"
            (the first GPU, or the CPU where there is none).

    Raises:
        InputError: if the name is unknown.
    """
    if name not in NAMES:
        raise InputError(f"--strategy must be one of {', '.join(NAMES)}, got {name!r}.")
    num_gpus = len(tf.config.list_physical_devices("GPU"))
    logging.info("TensorFlow %s sees %s.", tf.__version__, _count_gpus(num_gpus))
    if name == "none" or (name == "auto" and num_gpus == 0):
        return tf.distribute.get_strategy()
    # tf.distribute, for one GPU too: it copies the next batch there while a step runs.
    return tf.distribute.MirroredStrategy(["GPU:0"] if name == "auto" else None)


def _count_gpus(num_gpus):
    if num_gpus == 0:
        return "no GPU and works on the CPU"
    return f"{num_gpus} GPU" + "s" * (num_gpus > 1)
