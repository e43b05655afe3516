"""What a view looks like: torchvision's colour operations, blur, normalisation.

Every function takes a batch [batch, height, width, 3] of float32 RGB in [0, 1]
and one strength per image, and is a deterministic function of the two. The
colour operations are torchvision's, which differ from those of the same name in
tf.image. On uint8 images torchvision also rounds after every operation; here
nothing is rounded, which moves a result by up to 2 of 255, and by up to 8 where
hue turns, because Pillow knows only 256 hues.

Inside, an image is three planes [batch, height, width]: on a CPU, at 224 pixels,
a blend took 0.5 ms per image so and 1.4 ms along an axis of three channels, a turn
of the hue 1.8 ms and by tf.image's HSV 3.4 ms.
"""

import itertools

import numpy as np
import tensorflow as tf

# ITU-R 601-2, Pillow's conversion to "L".
LUMA_WEIGHTS = (0.299, 0.587, 0.114)
# Places for hue among the other three operations, times the orders of those.
NUM_JITTER_ORDERS = 24


def adjust_brightness(images, factors):
    """Multiplies: factor * image, clipped to [0, 1].

    Args:
        images: [batch, height, width, 3] float32 in [0, 1].
        factors: [batch] float32, at least 0; 1 changes nothing.

    Returns:
        [batch, height, width, 3] float32 in [0, 1].
    """
    return _image(_blend(_planes(images), factors))


def adjust_contrast(images, factors):
    """Blends with the mean of the grey image.

        factor * image + (1 - factor) * mean(grey(image)), clipped to [0, 1]

    Args:
        images: [batch, height, width, 3] float32 in [0, 1].
        factors: [batch] float32, at least 0; 1 changes nothing.

    Returns:
        [batch, height, width, 3] float32 in [0, 1].
    """
    return _image(_blend(_planes(images), factors, mean_shares=1.0))


def adjust_saturation(images, factors):
    """Blends with the grey image.

        factor * image + (1 - factor) * grey(image), clipped to [0, 1]

    Args:
        images: [batch, height, width, 3] float32 in [0, 1].
        factors: [batch] float32, at least 0; 1 changes nothing, 0 is grey.

    Returns:
        [batch, height, width, 3] float32 in [0, 1].
    """
    return _image(_blend(_planes(images), factors, luma_shares=1.0))


def adjust_hue(images, shifts):
    """Turns the hue of HSV colours; their saturation and value stay.

    Args:
        images: [batch, height, width, 3] float32 in [0, 1].
        shifts: [batch] float32 in [-0.5, 0.5], turns around the colour circle.

    Returns:
        [batch, height, width, 3] float32 in [0, 1].

    Example:
        >>> red = tf.constant([[[[1.0, 0.0, 0.0]]]])
        >>> adjust_hue(red, [1 / 3])[0, 0, 0].numpy().tolist()  # A third on is green.
        [0.0, 1.0, 0.0]
    """
    return _image(_turn_hue(_planes(images), shifts))


def to_grayscale(images):
    """The luma 0.299 red + 0.587 green + 0.114 blue, in all three channels.

    Args:
        images: [batch, height, width, 3] float32 in [0, 1].

    Returns:
        [batch, height, width, 3] float32 in [0, 1].

    Example:
        >>> blue = tf.constant([[[[0.0, 0.0, 1.0]]]])
        >>> to_grayscale(blue)[0, 0, 0].numpy()
        array([0.114, 0.114, 0.114], dtype=float32)
    """
    luma = _luma(_planes(images))
    return _image([luma, luma, luma])


def color_jitter(images, orders, brightness=None, contrast=None, saturation=None, hue=None):
    """Applies the four adjustments to each image, in an order of its own.

    Order `6 * p + r` puts hue after the first p of the others, and these in the
    r-th permutation of (brightness, contrast, saturation) in lexicographic order.
    Uniform orders make all 24 equally likely.

    Args:
        images: [batch, height, width, 3] float32 in [0, 1].
        orders: [batch] int32 in [0, NUM_JITTER_ORDERS).
        brightness: [batch] float32 factors, or None: not applied, and free.
        contrast: [batch] float32 factors, or None.
        saturation: [batch] float32 factors, or None.
        hue: [batch] float32 shifts in [-0.5, 0.5], turns, or None.

    Returns:
        [batch, height, width, 3] float32 in [0, 1].
    """
    strengths = {"brightness": brightness, "contrast": contrast, "saturation": saturation}
    names = [name for name, strength in strengths.items() if strength is not None]
    if not names:
        return images if hue is None else adjust_hue(images, hue)
    factors = tf.stack([tf.cast(strengths[name], tf.float32) for name in names], axis=1)
    schedules, hue_positions = _order_tables(tuple(names))
    chosen = tf.one_hot(tf.gather(schedules, orders), len(names))  # [batch, slot, name].
    hue_positions = tf.gather(hue_positions, orders)

    def blend_slot(planes, slot, is_active):
        one_hot = chosen[:, slot]
        slot_factors = tf.reduce_sum(one_hot * factors, axis=1)
        shares = dict(zip(names, tf.unstack(one_hot, axis=1)))
        return _blend(
            planes,
            tf.where(is_active, slot_factors, 1.0),  # Factor 1 is the exact identity.
            mean_shares=shares.get("contrast"),
            luma_shares=shares.get("saturation"),
        )

    # Brightness, contrast and saturation are one formula with different references,
    # so each slot serves whatever its images need. A slot before hue and one after
    # it cost less than the alternative, hue at each of its four positions.
    planes = _planes(images)
    for slot in range(len(names)):
        is_active = True if hue is None else hue_positions > slot
        planes = blend_slot(planes, slot, is_active)
    if hue is not None:
        planes = _turn_hue(planes, hue)
        for slot in range(len(names)):
            planes = blend_slot(planes, slot, hue_positions <= slot)
    return _image(planes)


def gaussian_blur(images, sigmas_px):
    """Blurs each image with a Gaussian of its own width.

    The weight of a pixel at a distance of d pixels is exp(-d^2 / (2 sigma^2)),
    along both axes, divided by the sum of the weights. Beyond the border the
    outermost pixel repeats. Pillow's filter is three box blurs instead, within 4 of
    255 of this one away from the border.

    Args:
        images: [batch, height, width, 3] float32.
        sigmas_px: [batch] float32, standard deviations in pixels, well below the
            image's sides; images with 0 or less stay exactly as they are.

    Returns:
        [batch, height, width, 3] float32, in the range of `images`.
    """
    height, width = images.shape[1:3]
    sigmas_px = tf.cast(sigmas_px, tf.float32)
    rows = _blur_matrix(sigmas_px, height)
    columns = rows if height == width else _blur_matrix(sigmas_px, width)
    # Dense matrices: their zeros cost less than a loop over taps does, on a CPU
    # and on a TPU, and the largest sigma need not be known.
    planes = tf.stack(_planes(images), axis=1)
    planes = rows[:, None] @ tf.matmul(planes, columns[:, None], transpose_b=True)
    blurred = _image(tf.unstack(planes, axis=1))
    # The matrix of sigma 0 is the identity, but a TPU multiplies in bfloat16.
    return tf.where(sigmas_px[:, None, None, None] > 0, blurred, images)


def normalize(images, mean, std):
    """(images - mean) / std, channel by channel.

    Args:
        images: [batch, height, width, 3] float32 in [0, 1].
        mean: three floats in [0, 1], one per channel.
        std: three floats above 0.

    Returns:
        [batch, height, width, 3] float32, no unit.
    """
    scale = 1.0 / np.asarray(std, np.float64)
    offset = -np.asarray(mean, np.float64) * scale
    return images * scale.astype(np.float32) + offset.astype(np.float32)


def _planes(images):
    return tf.unstack(tf.convert_to_tensor(images), axis=-1)


def _image(planes):
    return tf.stack(planes, axis=-1)


def _per_image(strengths):
    return tf.cast(strengths, tf.float32)[..., None, None]


def _clip(plane):
    return tf.clip_by_value(plane, 0.0, 1.0)


def _luma(planes):
    return sum(weight * plane for weight, plane in zip(LUMA_WEIGHTS, planes))


def _blend(planes, factors, mean_shares=None, luma_shares=None):
    """Blends with mean_share * mean(luma) + luma_share * luma, by default with black."""
    factors = _per_image(factors)
    added = None
    if mean_shares is not None or luma_shares is not None:
        luma = _luma(planes)
        added = 0.0
        if mean_shares is not None:
            mean = tf.reduce_mean(luma, axis=[1, 2], keepdims=True)
            added += (1.0 - factors) * _per_image(mean_shares) * mean
        if luma_shares is not None:
            added += (1.0 - factors) * _per_image(luma_shares) * luma
    blended = [plane * factors for plane in planes]
    if added is not None:
        blended = [plane + added for plane in blended]
    return [_clip(plane) for plane in blended]


def _turn_hue(planes, shifts):
    """HSV without its S: a channel is value - chroma * a trapezoid of the hue."""
    red, green, blue = planes
    value = tf.maximum(tf.maximum(red, green), blue)
    chroma = value - tf.minimum(tf.minimum(red, green), blue)
    divisor = tf.where(chroma > 0, chroma, 1.0)
    sextants = tf.where(
        value == red,
        (green - blue) / divisor,
        tf.where(value == green, 2.0 + (blue - red) / divisor, 4.0 + (red - green) / divisor),
    )
    sextants += 6.0 * _per_image(shifts)
    turned = []
    for channel_sextant in (5.0, 3.0, 1.0):
        angle = sextants + channel_sextant
        angle -= 6.0 * tf.floor(angle / 6.0)
        turned.append(_clip(value - chroma * _clip(2.0 - tf.abs(angle - 2.0))))
    return turned


def _order_tables(names):
    """What the 24 orders mean for the operations in use.

    Returns:
        schedules: [24, len(names)] int32, the index in `names` of each step.
        hue_positions: [24] int32, how many of `names` come before hue.
    """
    schedules, positions = [], []
    for hue_position in range(4):
        for permutation in itertools.permutations(("brightness", "contrast", "saturation")):
            schedules.append([names.index(name) for name in permutation if name in names])
            positions.append(sum(name in names for name in permutation[:hue_position]))
    return np.array(schedules, np.int32), np.array(positions, np.int32)


def _blur_matrix(sigmas_px, size):
    """[batch, size, size] weights of the inputs (last axis) in each output."""
    distances = np.arange(size, dtype=np.float32)
    # A width of 0 would divide by 0; at a hundredth of a pixel neighbours weigh 0.
    rates = 0.5 / tf.square(tf.maximum(sigmas_px, 0.01))[:, None]
    one_side = tf.exp(-rates * np.square(distances))
    total = 2.0 * tf.reduce_sum(one_side, axis=1, keepdims=True) - 1.0
    # beyond[d]: the weight of everything further away than d, on one side.
    beyond = tf.cumsum(one_side / total, axis=1, exclusive=True, reverse=True)
    between = np.abs(distances[:, None] - distances)
    matrix = tf.exp(-rates[..., None] * np.square(between)) / total[..., None]
    # What falls off the border is given to the outermost pixel.
    first, last = np.eye(size, dtype=np.float32)[[0, -1]]
    return matrix + beyond[..., None] * first + tf.reverse(beyond, [1])[..., None] * last
