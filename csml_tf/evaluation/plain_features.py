"""What can be seen in images without any network: their pixels, and which colors they have."""

import tensorflow as tf

from csml_tf import features
from csml_tf.models.adaptive_pooling import AdaptiveAveragePooling2D

# Bins of each color channel in the histogram.
_BINS = 8


def pixels(images, max_side):
    """The images themselves, averaged down to at most `max_side` pixels a side.

    Args:
        images: [batch, size, size, 3] float.
        max_side: at least 1.

    Returns:
        [batch, side * side * 3] float, with side = min(size, max_side).
    """
    if images.shape[1] > max_side:
        images = AdaptiveAveragePooling2D(max_side, name="pixels")(images)
    return features.flatten(images)


def color_histogram(images):
    """How much of an image has which color, wherever it is.

        made[i, (8 r + g) 8 + b] = sqrt(share of the pixels of image i whose red, green and blue
                                        are in the r-th, g-th and b-th eighth of [0, 1])

    The root makes the cosine of two rows their Bhattacharyya coefficient, so that a large plain
    background does not outweigh all else.

    Args:
        images: [batch, height, width, 3] float in [0, 1], RGB.

    Returns:
        [batch, 512] float32 of unit length.
    """
    bins = tf.clip_by_value(tf.cast(images * _BINS, tf.int32), 0, _BINS - 1)
    cells = features.flatten((bins[..., 0] * _BINS + bins[..., 1]) * _BINS + bins[..., 2])
    counts = tf.math.bincount(cells, minlength=_BINS**3, maxlength=_BINS**3, axis=-1)
    shares = tf.cast(counts, tf.float32) / tf.cast(tf.shape(cells)[1], tf.float32)
    return tf.ensure_shape(tf.sqrt(shares), [None, _BINS**3])
