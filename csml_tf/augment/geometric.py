"""Where a view looks: random resized crops, and decoding no more than they need.

Every function is a deterministic function of its inputs; what is random comes
in as `uniforms`, numbers drawn elsewhere. Images are uint8 here, as they come
from a file.
"""

import functools
import math

import numpy as np
import tensorflow as tf

from csml_tf.augment import image_kinds, image_size, orientation, resampling

NUM_CROP_ATTEMPTS = 10
# Columns of `uniforms` of a random resized crop: an area and a ratio for each
# attempt, then the top and the left of the one that is taken.
NUM_CROP_UNIFORMS = 2 * NUM_CROP_ATTEMPTS + 2

# Parts of its size at which a JPEG can be decoded.
_REDUCTIONS = (1, 2, 4, 8)
# TensorFlow decodes no JPEG of more than 2^29 values, and memory is what it takes.
_MAX_PIXELS = 2**26
# How many times its size each crop must keep in pixels: at 1, single pixels of photographs
# were off by up to 58 of 255.
_MIN_SHRINKAGE = 2.0
# Colour is stored at half the resolution: its pixels depend on their neighbors.
_REGION_MARGIN_PX = 2


def decode_image(encoded):
    """Pixels of one encoded JPEG, PNG, GIF or BMP file; with Pillow, of WebP, TIFF and more.

    The pixels are Pillow's, to the last bit, turned as EXIF says. Grey images are repeated
    into three channels, CMYK is converted, of 16 bits per channel the upper 8 of those in use
    are kept, alpha is dropped, an animation gives its first frame. A JPEG of more than
    67 million pixels is decoded at 1/2, 1/4 or 1/8 of its size; one that is progressive, and
    any other image, of more than `image_size.MAX_PIXELS` is an error.

    Args:
        encoded: scalar string, the bytes of the file.

    Returns:
        [height, width, 3] uint8, RGB.

    Raises:
        tf.errors.InvalidArgumentError: if the bytes are none of these formats, are broken or
            too many pixels; in a tf.data pipeline, when the element is read.

    Example:
        >>> grey_dot = tf.io.encode_png(tf.constant([[[7]]], tf.uint8))
        >>> decode_image(grey_dot).numpy().tolist()
        [[[7, 7, 7]]]
    """
    encoded = tf.convert_to_tensor(encoded)

    def decode_jpeg():
        height, width, _ = tf.unstack(tf.io.extract_jpeg_shape(encoded))
        checked = _check_giant(encoded, height, width)
        decoders = [functools.partial(_decode_jpeg, checked, r) for r in _REDUCTIONS]
        image = tf.switch_case(_least_reduction(height, width), decoders)
        return orientation.turn(image, orientation.find(encoded))

    image = tf.cond(tf.io.is_jpeg(encoded), decode_jpeg, lambda: image_kinds.decode(encoded))
    return tf.ensure_shape(image, [None, None, 3])


def decode_crops(encoded, make_windows, sizes, flips):
    """Square crops of one encoded image, which is decoded once, and only where they look.

    What a JPEG shows outside of all windows is not decoded. Where the windows are so
    large that it costs no detail, a JPEG is decoded at 1/2, 1/4 or 1/8 of its size,
    by as many coefficients of its blocks, which leaves at least `_MIN_SHRINKAGE` to the
    resampling. Otherwise the crops are those of the whole image, to the last bit.

    Args:
        encoded: scalar string, the bytes of the file.
        make_windows: function of (height, width), scalar int32, that returns the
            windows, [num_crops, 4] int32, pixels: top, left, height, width.
        sizes: heights and widths of the crops, pixels; a list of `num_crops` int.
        flips: list of scalar bool, crops to mirror left to right; None for no.

    Returns:
        List of [size, size, 3] uint8.

    Raises:
        tf.errors.InvalidArgumentError: as for `decode_image`.
    """

    # Fifty tiny operations in one.
    @functools.partial(tf.function, autograph=False, jit_compile=True)
    def plan(stored_sides, turned):
        # All but the region to decode is in the image as it is looked at.
        is_swapped, flips = orientation.is_transposed(turned), orientation.flips(turned)
        sides = tf.where(is_swapped, stored_sides[::-1], stored_sides)
        height, width = tf.unstack(sides)
        windows = make_windows(height, width)
        choice = tf.maximum(_choose_reduction(windows, sizes), _least_reduction(height, width))
        reduction = tf.gather(_REDUCTIONS, choice)
        region = _enclose(windows, height, width, reduction)
        small_sides = -(-sides // reduction)
        # Sides that cannot be divided are rounded up, at the end that a flip makes the start.
        rounded = _to_float(small_sides) - _to_float(sides) / _to_float(reduction)
        origin = _to_float(region[:2]) - tf.where(flips, rounded, 0.0)
        windows = _to_float(windows) / _to_float(reduction)
        corners = tf.where(flips, small_sides - region[:2] - region[2:], region[:2])
        stored = tf.stack([corners, region[2:]])
        stored = tf.reshape(tf.where(is_swapped, stored[:, ::-1], stored), [4])
        return choice, stored, windows - tf.concat([origin, [0.0, 0.0]], axis=0)

    def decode_part():
        turned = orientation.find(encoded)
        sides = tf.io.extract_jpeg_shape(encoded)[:2]
        choice, region, windows = plan(sides, turned)
        checked = _check_giant(encoded, *tf.unstack(sides))
        decoders = [functools.partial(_decode_region, checked, region, r) for r in _REDUCTIONS]
        return orientation.turn(tf.switch_case(choice, decoders), turned), windows

    def decode_whole():
        image = decode_image(encoded)
        height, width, _ = tf.unstack(tf.shape(image))
        return image, tf.cast(make_windows(height, width), tf.float32)

    image, windows = tf.cond(tf.io.is_jpeg(encoded), decode_part, decode_whole)
    return resampling.cut_crops(image, windows, sizes, flips)


def _to_float(numbers):
    return tf.cast(numbers, tf.float32)


def _decode_jpeg(encoded, reduction):
    # Pillow's inverse DCT; TensorFlow's faster default is up to 6 grey levels off.
    return tf.io.decode_jpeg(encoded, channels=3, ratio=reduction, dct_method="INTEGER_ACCURATE")


def _check_giant(encoded, height, width):
    """The JPEG file as it is; an error if it is one that cannot be decoded in parts."""
    return tf.cond(
        _num_pixels(height, width) > image_size.MAX_PIXELS,
        lambda: image_kinds.refuse_giant(encoded),
        lambda: encoded,
    )


def _num_pixels(height, width):
    # Not as integers, which 2^31 pixels are too many for.
    return tf.cast(height, tf.float32) * tf.cast(width, tf.float32)


def _least_reduction(height, width):
    """Index of the smallest of `_REDUCTIONS` that leaves no more than `_MAX_PIXELS`."""
    too_many = _num_pixels(height, width) > _MAX_PIXELS * np.square(np.float32(_REDUCTIONS[:-1]))
    return tf.reduce_sum(tf.cast(too_many, tf.int32))


def _choose_reduction(windows, sizes):
    """Index of the largest of `_REDUCTIONS` that every window has pixels enough for."""
    shrinkages = tf.cast(windows[:, 2:], tf.float32) / tf.cast(sizes, tf.float32)[:, None]
    enough = tf.reduce_min(shrinkages) >= _MIN_SHRINKAGE * np.float32(_REDUCTIONS[1:])
    return tf.reduce_sum(tf.cast(enough, tf.int32))


def _enclose(windows, height, width, reduction):
    """The part of the reduced image that the windows need: top, left, height, width."""
    sides = -(-tf.stack([height, width]) // reduction)
    corners, ends = windows[:, :2], windows[:, :2] + windows[:, 2:]
    start = tf.reduce_min(corners, axis=0) // reduction - _REGION_MARGIN_PX
    stop = -(-tf.reduce_max(ends, axis=0) // reduction) + _REGION_MARGIN_PX
    start, stop = tf.maximum(start, 0), tf.minimum(stop, sides)
    return tf.concat([start, stop - start], axis=0)


def _decode_region(encoded, region, reduction):
    image = tf.image.decode_and_crop_jpeg(
        encoded, region, channels=3, ratio=reduction, dct_method="INTEGER_ACCURATE"
    )
    return tf.ensure_shape(image, [None, None, 3])


@functools.partial(tf.function, autograph=False, jit_compile=True)
def _exp(values):
    """As `tf.exp`, whose last bit depends on the place in the batch, and with it a window would."""
    return tf.exp(values)


def random_resized_crop_windows(heights, widths, uniforms, scale=(0.2, 1.0), ratio=(3 / 4, 4 / 3)):
    """Windows of torchvision's RandomResizedCrop.

    Attempt i draws an area and the logarithm of a ratio, both uniform:

        area[i] = height * width * uniform(scale)
        log_ratio[i] = uniform(log(ratio))
        window[i] = round(sqrt(area / ratio)) high, round(sqrt(area * ratio)) wide

    The first of ten attempts that fits into the image is put at a uniform place.
    If none fits, the window is the largest central one of an allowed ratio.

    Args:
        heights: [...] int32, pixels; any leading axes, as those of `uniforms`.
        widths: [...] int32, pixels.
        uniforms: [..., NUM_CROP_UNIFORMS] float32 in [0, 1).
        scale: smallest and largest area of the window, as a share of the image's.
        ratio: smallest and largest width / height of the window.

    Returns:
        [..., 4] int32, pixels: top, left, height, width.

    Raises:
        ValueError: if `uniforms` has a wrong number of columns.

    Example:
        >>> uniforms = tf.fill([NUM_CROP_UNIFORMS], 0.5)  # Half of everything.
        >>> random_resized_crop_windows(100, 100, uniforms, (0.0, 0.5), (1.0, 1.0)).numpy()
        array([25, 25, 50, 50], dtype=int32)
    """
    if uniforms.shape[-1] != NUM_CROP_UNIFORMS:
        raise ValueError(
            f"uniforms must have {NUM_CROP_UNIFORMS} columns, got {uniforms.shape[-1]}."
        )
    heights = tf.cast(heights, tf.float32)
    widths = tf.cast(widths, tf.float32)
    low, high = math.log(ratio[0]), math.log(ratio[1])
    shares = scale[0] + (scale[1] - scale[0]) * uniforms[..., :NUM_CROP_ATTEMPTS]
    log_ratios = low + (high - low) * uniforms[..., NUM_CROP_ATTEMPTS:-2]
    areas = (heights * widths)[..., None] * shares
    ratios = _exp(log_ratios)
    crop_heights = tf.round(tf.sqrt(areas / ratios))
    crop_widths = tf.round(tf.sqrt(areas * ratios))
    fits = (
        (crop_heights > 0)
        & (crop_heights <= heights[..., None])
        & (crop_widths > 0)
        & (crop_widths <= widths[..., None])
    )
    first = tf.one_hot(tf.argmax(tf.cast(fits, tf.int32), axis=-1), NUM_CROP_ATTEMPTS)
    any_fits = tf.reduce_any(fits, axis=-1)

    # The fallback: the whole of the side that is too short for the ratio.
    image_ratios = widths / heights
    central_heights = tf.where(image_ratios < ratio[0], tf.round(widths / ratio[0]), heights)
    central_widths = tf.where(image_ratios > ratio[1], tf.round(heights * ratio[1]), widths)

    crop_heights = tf.where(any_fits, tf.reduce_sum(first * crop_heights, axis=-1), central_heights)
    crop_widths = tf.where(any_fits, tf.reduce_sum(first * crop_widths, axis=-1), central_widths)
    spare = tf.stack([heights - crop_heights, widths - crop_widths], axis=-1)
    drawn = tf.minimum(tf.floor(uniforms[..., -2:] * (spare + 1)), spare)
    corners = tf.where(any_fits[..., None], drawn, tf.floor(spare / 2))
    sizes = tf.stack([crop_heights, crop_widths], axis=-1)
    return tf.cast(tf.concat([corners, sizes], axis=-1), tf.int32)
