"""How tf.data spreads its work here: over all cores, from the first batch on."""

import os

import tensorflow as tf

# Of `Dataset.map`: what tf.data's own tuning may reach at most.
CALLS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
_BATCHES_AHEAD = 2


def prefetch(dataset):
    """The last stage of every pipeline: the next batches are made while one is used.

    Args:
        dataset: `tf.data.Dataset` of batches.

    Returns:
        `tf.data.Dataset` of the same, `untuned`.
    """
    return untuned(dataset.prefetch(_BATCHES_AHEAD))


def untuned(dataset):
    """Turns off that tf.data tunes a pipeline.

    The thread that tunes sleeps for twice as long each time, up to a minute, and can miss being
    woken when the iterator goes (TensorFlow 2.15: `Model::OptimizeLoop` looks at `IsCancelled`,
    which `CancellationManager` sets after its callbacks have run). Whoever drops an iterator then
    waits for it: after an epoch of 40 s another 40 s, four times in ten.

    Args:
        dataset: `tf.data.Dataset`.

    Returns:
        `tf.data.Dataset` of the same.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)
