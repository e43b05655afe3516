"""What the automatic settings want to know of a run's images and machine."""

from __future__ import annotations

import os

import numpy as np
import tensorflow as tf

from csml_tf.augment import geometric
from csml_tf.data.sources.base import ImageSource
from csml_tf.training import precision, strategies, workers
from csml_tf.training.automatic import Facts

_SAMPLE = 64  # Images whose size is looked at.
_PARTS_OF_ONE = 1000  # Workers share whole numbers.


def collect(
    source: ImageSource, strategy: tf.distribute.Strategy, times_bfloat16: bool = False
) -> Facts:
    """The `automatic.Facts`, alike on all workers.

    Args:
        source: of the training images.
        strategy: of the run.
        times_bfloat16: whether `bfloat16_gain` is wanted, which takes a second where a CPU has
            instructions for it; 1.0 otherwise.
    """
    replicas = strategy.num_replicas_in_sync
    on_cpus = strategies.uses_cpus(strategy)
    own = [len(source), _short_side_px(source), _num_cpus(), 0 if on_cpus else replicas, replicas]
    gain = precision.bfloat16_gain() if times_bfloat16 and on_cpus else 1.0
    own.append(round(_PARTS_OF_ONE * gain))
    # Machines may differ, and their settings may not.
    *numbers, gain = workers.share(strategy, np.array(own, np.int32)).tolist()
    return Facts(*numbers, bfloat16_gain=gain / _PARTS_OF_ONE)


def _num_cpus():
    """Cores that this process may use, which in a container may be fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _short_side_px(source):
    """Median of the shorter side, over images spread evenly; the same in every process."""
    if source.image_shape is not None:
        return min(source.image_shape)
    indices = np.unique(np.linspace(0, len(source) - 1, _SAMPLE).astype(int))

    @tf.autograph.experimental.do_not_convert
    def short_side(index):
        return tf.reduce_min(tf.shape(source.read_with(index, geometric.decode_image))[:2])

    sides = tf.data.Dataset.from_tensor_slices(indices).map(short_side)
    return int(np.median(list(sides.as_numpy_iterator())))
