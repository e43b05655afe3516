"""Features that a CPU computes in bfloat16, and how far they are from those of float32."""

import contextlib

import numpy as np
import tensorflow as tf
from absl import logging

from csml_tf import choices
from csml_tf.errors import InputError

# TensorFlow's own rewriting of a graph, for CPUs: convolutions and products take bfloat16 and
# add up in float32; what needs the range stays float32.
_OPTION = "auto_mixed_precision_onednn_bfloat16"


def choose(encode, precision):
    """A function of images in the wanted numbers.

    Args:
        encode: function of [batch, size, size, 3] float32 images to [batch, dim] float32 that
            runs on a CPU, outside of any graph.
        precision: one of `choices.COMPUTE_PRECISIONS`.

    Returns:
        `encode` for "float32"; for "bfloat16" the same function, computed in bfloat16. Its
        first call computes both and logs how far they are apart.

    Raises:
        InputError: if the precision is unknown, or bfloat16 is wanted where there is a GPU, or
            under a strategy.
    """
    if precision not in choices.COMPUTE_PRECISIONS:
        raise InputError(
            f"precision must be one of {', '.join(choices.COMPUTE_PRECISIONS)}, got {precision!r}."
        )
    if precision == "float32":
        return encode
    if tf.distribute.has_strategy() or tf.config.list_logical_devices("GPU"):
        raise InputError(
            "Features are computed in bfloat16 on one CPU only: leave precision at float32, or "
            "hide the GPUs with CUDA_VISIBLE_DEVICES=-1."
        )
    return _Compared(encode)


def deviations(found, expected):
    """|found - expected| / |expected|, row by row.

    Args:
        found: [n, dim] float.
        expected: [n, dim] float.

    Returns:
        [n] float64; 0 where both are 0.
    """
    found, expected = (np.asarray(rows, np.float64) for rows in (found, expected))
    lengths = np.linalg.norm(expected, axis=1)
    differences = np.linalg.norm(found - expected, axis=1)
    return differences / np.where(lengths > 0, lengths, 1.0)


class _Compared:
    """A function in bfloat16; the first batch shows what that changes."""

    def __init__(self, encode):
        self._encode = encode
        self._is_compared = False

    def __call__(self, images):
        with _rewritten():
            found = self._encode(images)
        if not self._is_compared:
            self._is_compared = True
            self._compare(found, self._encode(images))
        return found

    def _compare(self, found, expected):
        apart = deviations(found, expected)
        if not apart.any():
            logging.warning(
                "Nothing of this network is computed in bfloat16 here: its features are those of "
                "float32."
            )
            return
        logging.info(
            "bfloat16: the first %d rows differ from those of float32 by %.2g %% of their length "
            "on average, %.2g %% at most.",
            *(len(apart), 100 * apart.mean(), 100 * apart.max()),
        )


@contextlib.contextmanager
def _rewritten():
    before = tf.config.optimizer.get_experimental_options().get(_OPTION, False)
    tf.config.optimizer.set_experimental_options({_OPTION: True})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({_OPTION: before})
