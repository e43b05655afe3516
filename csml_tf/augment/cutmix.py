"""CutMix, arXiv:1905.04899: a box of one image pasted into another."""

import functools

import numpy as np
import tensorflow as tf

from csml_tf import draws

# Columns of `uniforms` of one box: its area, its centre's row and column.
NUM_BOX_UNIFORMS = 3


def random_boxes(seed, num_boxes, height, width, alpha):
    """Boxes of `boxes_from_uniforms`, from a seed.

    Args:
        seed: [2] int32.
        num_boxes: how many, a Python int.
        height: of the images, pixels.
        width: of the images, pixels.
        alpha: float above 0, of the Beta distribution of the area kept.

    Returns:
        [num_boxes, 4] int32, pixels: top, left, bottom, right, the last two exclusive.

    Raises:
        ValueError: if `alpha` is not above 0.
    """
    uniforms = draws.uniform([num_boxes, NUM_BOX_UNIFORMS], seed)
    return boxes_from_uniforms(uniforms, height, width, alpha)


def boxes_from_uniforms(uniforms, height, width, alpha):
    """The boxes of CutMix, clipped at the border.

        kept ~ Beta(alpha, alpha)
        half_height = int(height * sqrt(1 - kept)) // 2, and so for the width
        center = a uniform pixel
        box = [center - half, center + half), clipped

    Args:
        uniforms: [num_boxes, NUM_BOX_UNIFORMS] float32 in [0, 1).
        height: of the images, pixels.
        width: of the images, pixels.
        alpha: float above 0, of the Beta distribution of the area kept.

    Returns:
        [num_boxes, 4] int32, pixels: top, left, bottom, right, the last two exclusive.

    Raises:
        ValueError: if `alpha` is not above 0.

    Example:
        >>> boxes_from_uniforms(tf.fill([1, 3], 0.5), 32, 64, alpha=2.0).numpy()
        array([[ 5, 10, 27, 54]], dtype=int32)
    """
    kept, rows, columns = tf.unstack(uniforms, axis=1)
    sides = tf.sqrt(1.0 - _symmetric_beta_quantiles(kept, alpha))
    edges = []
    for size, positions in ((height, rows), (width, columns)):
        centers = tf.minimum(tf.cast(positions * size, tf.int32), size - 1)
        halves = tf.cast(size * sides, tf.int32) // 2
        edges.append((tf.maximum(centers - halves, 0), tf.minimum(centers + halves, size)))
    (top, bottom), (left, right) = edges
    return tf.stack([top, left, bottom, right], axis=1)


def area_fractions(boxes, height, width):
    """Share of the first image that is left: 1 - box area / image area.

    Args:
        boxes: [num_boxes, 4] int32, pixels: top, left, bottom, right.
        height: of the images, pixels.
        width: of the images, pixels.

    Returns:
        [num_boxes] float32 in [0, 1].

    Example:
        >>> area_fractions(tf.constant([[0, 0, 1, 2]]), height=4, width=4).numpy()
        array([0.875], dtype=float32)
    """
    top, left, bottom, right = tf.unstack(boxes, axis=1)
    areas = tf.cast((bottom - top) * (right - left), tf.float32)
    return 1.0 - areas / (height * width)


def cutmix(images, partners, boxes):
    """The images, with each partner's pixels inside the box.

    Args:
        images: [batch, height, width, channels], any dtype.
        partners: [batch, height, width, channels], the same.
        boxes: [batch, 4] int32, pixels: top, left, bottom, right; or [1, 4], one
            box for the whole batch, as the authors of CsMl do.

    Returns:
        [batch, height, width, channels] of the dtype of `images`.
    """
    height, width = images.shape[1:3]
    top, left, bottom, right = tf.unstack(boxes[..., None], axis=1)
    rows, columns = tf.range(height), tf.range(width)
    in_rows = (rows >= top) & (rows < bottom)
    in_columns = (columns >= left) & (columns < right)
    inside = in_rows[:, :, None] & in_columns[:, None, :]
    return tf.where(inside[..., None], partners, images)


def _symmetric_beta_quantiles(uniforms, alpha):
    """Inverse of the distribution function of Beta(alpha, alpha).

    The obvious draw, two of tf.random.stateless_gamma, does not compile with XLA.
    Quantile and probability are nearly proportional as logits, so few points of
    that curve suffice; on it alpha = 1, the uniform distribution, is a straight
    line. The error is below 1e-4.
    """
    logits, quantile_logits = _symmetric_beta_curve(float(alpha))
    # 2^-24: half of the smallest number above 0 that is drawn.
    uniforms = tf.clip_by_value(uniforms, 2.0**-24, 1.0 - 2.0**-24)
    step = logits[1] - logits[0]
    places = (tf.math.log(uniforms) - tf.math.log1p(-uniforms) - logits[0]) / step
    below = tf.clip_by_value(tf.cast(places, tf.int32), 0, len(logits) - 2)
    table = tf.constant(quantile_logits, tf.float32)
    low, high = tf.gather(table, below), tf.gather(table, below + 1)
    return tf.sigmoid(low + (places - tf.cast(below, tf.float32)) * (high - low))


@functools.lru_cache(maxsize=8)
def _symmetric_beta_curve(alpha):
    """logit(quantile) at equally spaced logit(probability), two float64 arrays."""
    if not alpha > 0:
        raise ValueError(f"alpha must be above 0, got {alpha}.")
    # With x = sigmoid(t) the density is (x (1 - x))^alpha dt, smooth for every
    # alpha, of tails exp(-alpha |t|): the trapezoidal rule is exact to rounding.
    ends = 20.0 / alpha + 5.0
    t = np.linspace(-ends, 0.0, 20001)
    log_density = -alpha * (np.logaddexp(0.0, t) + np.logaddexp(0.0, -t))
    density = np.exp(log_density - log_density[-1])
    # The lower tail left out continues as exp(alpha t).
    pieces = np.append(density[0] / alpha, 0.5 * (density[1:] + density[:-1]) * (t[1] - t[0]))
    lower_half = np.cumsum(pieces)
    lower_half *= 0.5 / lower_half[-1]
    logit = np.log(lower_half) - np.log1p(-lower_half)
    # Symmetric, so the upper half is the lower one turned around.
    logit = np.append(logit, -logit[-2::-1])
    t = np.append(t, -t[-2::-1])
    grid = np.linspace(-17.0, 17.0, 1025)
    return grid, np.interp(grid, logit, t)
