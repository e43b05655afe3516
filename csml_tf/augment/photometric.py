"""What a view looks like: torchvision's colour operations, blur, normalisation.

Every function works on a batch of images as three planes, `split` makes them and
`normalize` puts them together again:

    planes: (red, green, blue), each [batch, height, width] float32 in [0, 1]

with one strength per image, and is a deterministic function of the two. The
colour operations are torchvision's, which differ from those of the same name in
tf.image. On uint8 images torchvision also rounds after every operation; here
nothing is rounded, which moves a result by up to 2 of 255, and by up to 8 where
hue turns, because Pillow knows only 256 hues.

Each step is compiled by XLA, on a CPU too: as ordinary operations a view of 224
pixels took six times as long. A step is one operation or two: given more in a row,
XLA computes the planes of the first anew for each plane of the last. `one_by_one`
does the same with one image at a time, for CPUs.
"""

import functools
import itertools
import math

import numpy as np
import tensorflow as tf

# ITU-R 601-2, Pillow's conversion to "L".
LUMA_WEIGHTS = (0.299, 0.587, 0.114)
# Orders of brightness, contrast, saturation and hue.
NUM_JITTER_ORDERS = 24
# Where the Gaussian is cut off; 6e-5 of its weight lies beyond.
_BLUR_RADIUS_SIGMAS = 4.0

compiled = functools.partial(tf.function, autograph=False, jit_compile=True)


def finish(images, draws, max_sigma_px, mean, std):
    """Everything after crop and flip; the whole batch goes through each operation.

    Args:
        images: [batch, height, width, 3] uint8.
        draws: list of (name, arguments), in the order in which they are applied:
            "color_jitter", "to_grayscale", "gaussian_blur" or "solarize", and the arguments of
            that function of this module by name.
        max_sigma_px: of "gaussian_blur".
        mean: three floats, of each channel, of values in [0, 1].
        std: three floats above 0.

    Returns:
        [batch, height, width, 3] float32, normalised.
    """
    steps = {
        "color_jitter": color_jitter,
        "to_grayscale": to_grayscale,
        "gaussian_blur": functools.partial(gaussian_blur, max_sigma_px=max_sigma_px),
        "solarize": solarize,
    }
    planes = split(images)
    for name, arguments in draws:
        planes = steps[name](planes, **arguments)
    return normalize(planes, tf.constant(mean, tf.float32), tf.constant(std, tf.float32))


@compiled
def split(images):
    """The three planes of a batch of images.

    Args:
        images: [batch, height, width, 3] uint8.

    Returns:
        planes, in [0, 1].
    """
    planes = tf.unstack(tf.cast(images, tf.float32), axis=-1)
    return [plane * np.float32(1 / 255) for plane in planes]


@compiled
def adjust_brightness(planes, factors):
    """Multiplies: factor * image, clipped to [0, 1].

    Args:
        planes: as above.
        factors: [batch] float32, at least 0; 1 changes nothing.

    Returns:
        planes.
    """
    return _blend(planes, factors, tf.zeros_like(factors))


@compiled
def adjust_saturation(planes, factors):
    """Blends with the grey image.

        factor * image + (1 - factor) * grey(image), clipped to [0, 1]

    Args:
        planes: as above.
        factors: [batch] float32, at least 0; 1 changes nothing, 0 is grey.

    Returns:
        planes.
    """
    return _blend(planes, factors, 1.0 - factors)


@compiled
def adjust_contrast(planes, factors):
    """Blends with the mean of the grey image.

        factor * image + (1 - factor) * mean(grey(image)), clipped to [0, 1]

    Args:
        planes: as above.
        factors: [batch] float32, at least 0; 1 changes nothing.

    Returns:
        planes.
    """
    factors = _per_image(factors)
    added = (1.0 - factors) * tf.reduce_mean(_luma(planes), axis=[1, 2], keepdims=True)
    return [_clip(factors * plane + added) for plane in planes]


@compiled
def adjust_hue(planes, shifts):
    """Turns the hue of HSV colours; their saturation and value stay.

    Args:
        planes: as above.
        shifts: [batch] float32 in [-0.5, 0.5], turns around the colour circle.

    Returns:
        planes.

    Example:
        >>> red = [tf.ones([1, 1, 1]), tf.zeros([1, 1, 1]), tf.zeros([1, 1, 1])]
        >>> green = adjust_hue(red, tf.constant([1 / 3]))  # A third of the circle on.
        >>> [plane.numpy().item() for plane in green]
        [0.0, 1.0, 0.0]
    """
    # HSV without its S: a channel is value - chroma * a trapezoid of the hue.
    red, green, blue = planes
    value = tf.maximum(tf.maximum(red, green), blue)
    chroma = value - tf.minimum(tf.minimum(red, green), blue)
    is_red, is_green = value == red, value == green
    # Chosen before it is divided: divisions take longest of all.
    sides = tf.where(is_red, green - blue, tf.where(is_green, blue - red, red - green))
    sextants = tf.where(is_red, 0.0, tf.where(is_green, 2.0, 4.0))
    sextants += sides / tf.where(chroma > 0, chroma, 1.0) + 6.0 * _per_image(shifts)
    turned = []
    for opposite_sextant in (3.0, 5.0, 1.0):  # Where the channel is darkest: cyan for red.
        from_opposite = sextants - opposite_sextant
        from_opposite -= 6.0 * tf.round(from_opposite * np.float32(1 / 6))
        turned.append(value - chroma * _clip(2.0 - tf.abs(from_opposite)))
    return turned


@compiled
def to_grayscale(planes, is_gray):
    """The luma 0.299 red + 0.587 green + 0.114 blue in all three planes.

    Args:
        planes: as above.
        is_gray: [batch] bool, the images that become grey; the others stay.

    Returns:
        planes.
    """
    luma = _luma(planes)
    return [tf.where(is_gray[:, None, None], luma, plane) for plane in planes]


def color_jitter(planes, orders, brightness=None, contrast=None, saturation=None, hue=None):
    """Applies the four adjustments to each image, in an order of its own.

    Order `6 * p + r` puts hue after the first p of the others, and these in the
    r-th permutation of (brightness, contrast, saturation) in lexicographic order.
    Uniform orders make all 24 equally likely.

    Args:
        planes: as above.
        orders: [batch] int32 in [0, NUM_JITTER_ORDERS).
        brightness: [batch] float32 factors, or None: not applied, and free.
        contrast: [batch] float32 factors, or None.
        saturation: [batch] float32 factors, or None.
        hue: [batch] float32 shifts in [-0.5, 0.5], turns, or None.

    Returns:
        planes.
    """
    strengths = {
        "brightness": brightness,
        "contrast": contrast,
        "saturation": saturation,
        "hue": hue,
    }
    used = tuple(name for name, strength in strengths.items() if strength is not None)
    blends, hue_shares = (tf.gather(table, orders) for table in _order_tables(used))
    # Brightness and saturation are one formula; a place that neither takes has factor 1.
    one_hot = tf.one_hot(blends, 3)  # [batch, part, place, (nothing, brightness, saturation)].
    ones = tf.ones(tf.shape(orders))
    factors = [
        ones if s is None else tf.cast(s, tf.float32) for s in (None, brightness, saturation)
    ]
    factors = tf.einsum("bpfn,bn->bpf", one_hot, tf.stack(factors, axis=1))
    luma_shares = one_hot[..., 2] * (1.0 - factors)

    # Contrast is the only one that looks at more than a pixel, so that the others come
    # in two chains, before and after it. Hue, which costs most, has one place in each
    # chain, and brightness and saturation theirs before and after hue: an image uses
    # those that its order asks for.
    for chain in range(1 if contrast is None else 2):
        first_part, last_part = 2 * chain, 2 * chain + 1
        first_blends = factors[:, first_part], luma_shares[:, first_part]
        if chain == 0:
            planes = _blend_places(planes, *first_blends)
        else:
            planes = _contrast_then_blends(planes, contrast, *first_blends)
        if hue is not None:
            last_blends = factors[:, last_part], luma_shares[:, last_part]
            planes = _hue_then_blends(planes, hue * hue_shares[:, chain], *last_blends)
    return planes


def jitter_orders():
    """The orders of `color_jitter`: NUM_JITTER_ORDERS lists of the four names."""
    return [
        [*others[:place], "hue", *others[place:]]
        for place in range(4)
        for others in itertools.permutations(("brightness", "contrast", "saturation"))
    ]


def gaussian_blur(planes, sigmas_px, max_sigma_px):
    """Blurs each image with a Gaussian of its own width.

    The weight of a pixel at a distance of d pixels is exp(-d^2 / (2 sigma^2)),
    along both axes, divided by the sum of the weights, and 0 from beyond
    4 * `max_sigma_px` on. Beyond the border the outermost pixel repeats. Pillow's
    filter is three box blurs instead, within 4 of 255 of this one away from the border.

    Args:
        planes: as above; any range.
        sigmas_px: [batch] float32, standard deviations in pixels, at most
            `max_sigma_px`; images with 0 or less stay exactly as they are.
        max_sigma_px: float above 0; the cost grows with it.

    Returns:
        planes, in the range of those given.
    """
    radius = blur_radius(max_sigma_px)
    padded = [repeat_border(repeat_border(plane, radius, 1), radius, 2) for plane in planes]
    weights = gaussian_weights(tf.cast(sigmas_px, tf.float32), radius)
    return _convolve_rows(_convolve_columns(padded, weights), weights)


def blur_radius(max_sigma_px):
    """How far `gaussian_blur` looks, pixels: int."""
    return math.ceil(_BLUR_RADIUS_SIGMAS * max_sigma_px)


@compiled
def gaussian_weights(sigmas_px, radius):
    """Weights of the pixels at a distance of 0, 1, .. on either side.

    Args:
        sigmas_px: [batch] float32, pixels.
        radius: int, the largest distance.

    Returns:
        [batch, radius + 1] float32; both sides together sum to 1.
    """
    # Compiled for its exponential: the last bit of TensorFlow's own depends on the batch.
    distances = np.arange(radius + 1, dtype=np.float32)
    # A width of 0 would divide by 0; at a hundredth of a pixel neighbors weigh 0.
    rates = 0.5 / tf.square(tf.maximum(sigmas_px, 0.01))[:, None]
    weights = tf.exp(-rates * np.square(distances))
    return weights / (2.0 * tf.reduce_sum(weights, axis=1, keepdims=True) - 1.0)


def repeat_border(plane, radius, axis):
    """The plane with `radius` copies of its outermost rows (axis 1) or columns (2) at both ends."""
    before, after = (
        tf.repeat(tf.gather(plane, [place], axis=axis), radius, axis)
        for place in (0, plane.shape[axis] - 1)
    )
    return tf.concat([before, plane, after], axis)


def convolve(padded, weights, axis):
    """The weighted sum of each pixel and those around it, along one axis.

    Args:
        padded: [batch, height, width] float32, with its border already.
        weights: [batch, radius + 1] float32, `gaussian_weights`.
        axis: 1 or 2.

    Returns:
        [batch, height, width] float32, shorter by 2 * radius along the axis.
    """
    radius = weights.shape[1] - 1
    size = padded.shape[axis] - 2 * radius

    def shifted(distance):
        start = [0, 0, 0]
        start[axis] = radius + distance
        length = [-1, -1, -1]
        length[axis] = size
        return tf.slice(padded, start, length)

    total = _per_image(weights[:, 0]) * shifted(0)
    for distance in range(1, radius + 1):
        total += _per_image(weights[:, distance]) * (shifted(-distance) + shifted(distance))
    return total


@compiled
def solarize(planes, is_solarized):
    """Turns values of one half and more into their opposite, 1 - value.

    Args:
        planes: as above.
        is_solarized: [batch] bool, the images that it happens to; the others stay.

    Returns:
        planes.
    """
    chosen = is_solarized[:, None, None]
    # torchvision's threshold is 128 of 255; nothing is rounded here, so it lies between two.
    return [tf.where(chosen & (plane >= 127.5 / 255), 1.0 - plane, plane) for plane in planes]


@compiled
def normalize(planes, mean, std):
    """(images - mean) / std, channel by channel.

    Args:
        planes: as above.
        mean: [3] float32 in [0, 1], one per channel.
        std: [3] float32 above 0.

    Returns:
        [batch, height, width, 3] float32, no unit.
    """
    # What tf.stack would give, at a third of the time.
    channels = np.eye(3, dtype=np.float32)
    images = sum(plane[..., None] * channel for plane, channel in zip(planes, channels))
    return (images - mean) / std


def _per_image(strengths):
    return strengths[..., None, None]


def _clip(plane):
    return tf.clip_by_value(plane, 0.0, 1.0)


def _luma(planes):
    return sum(weight * plane for weight, plane in zip(LUMA_WEIGHTS, planes))


def _blend(planes, factors, luma_shares):
    """Of each image: factor * image + luma_share * grey(image), clipped."""
    added = _per_image(luma_shares) * _luma(planes)
    return [_clip(_per_image(factors) * plane + added) for plane in planes]


@compiled
def _blend_places(planes, factors, luma_shares):
    """One blend after the other; factors and luma_shares are [batch, places]."""
    for place in range(factors.shape[1]):
        planes = _blend(planes, factors[:, place], luma_shares[:, place])
    return planes


@compiled
def _contrast_then_blends(planes, contrast, factors, luma_shares):
    return _blend_places(adjust_contrast(planes, contrast), factors, luma_shares)


@compiled
def _hue_then_blends(planes, shifts, factors, luma_shares):
    return _blend_places(adjust_hue(planes, shifts), factors, luma_shares)


@functools.cache
def _order_tables(used):
    """What the 24 orders mean for the operations in use.

    Returns:
        blends: [24, 4, 2] int32, what stands at the places before and after hue in the
            first chain, then in the second: 0 nothing, 1 brightness, 2 saturation.
        hue_shares: [24, 2] float32, 1 for the chain that hue is in.
    """
    blends = np.zeros([NUM_JITTER_ORDERS, 4, 2], np.int32)
    hue_shares = np.zeros([NUM_JITTER_ORDERS, 2], np.float32)
    for order, names in enumerate(jitter_orders()):
        part = 0
        places = [0] * 4
        for name in (name for name in names if name in used):
            if name == "contrast":
                part = 2
            elif name == "hue":
                hue_shares[order, part // 2] = 1.0
                part += 1
            else:
                blends[order, part, places[part]] = ("brightness", "saturation").index(name) + 1
                places[part] += 1
    return blends, hue_shares


@compiled
def _convolve_columns(padded, weights):
    return [convolve(plane, weights, axis=1) for plane in padded]


@compiled
def _convolve_rows(padded, weights):
    return [convolve(plane, weights, axis=2) for plane in padded]
