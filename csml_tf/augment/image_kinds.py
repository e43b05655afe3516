"""Kinds of image files, told by their first bytes, and how those that are no JPEG are decoded."""

import contextlib
import functools
import importlib.util
import io
import os
import warnings

import numpy as np
import tensorflow as tf

from csml_tf import places
from csml_tf.augment import bytes_call, image_size

HEAD_BYTES = 32
# In these is the size of a JPEG file, behind all that a camera writes of itself.
LONG_HEAD_BYTES = 2**20
# Read by Pillow, the extra `images`; HEIC needs pillow-heif beside it.
FOREIGN = ("WebP", "TIFF", "HEIC", "AVIF")
ADVICE = {
    kind: f"readable after `pip install {'pillow-heif' if kind == 'HEIC' else 'pillow'}`"
    for kind in FOREIGN
}
_TIFF_HEADS = (b"II*\0", b"MM\0*")
_BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)


def find_kind(head):
    """The kind of an image file.

    Args:
        head: bytes, its first 32 or more; fewer where the file is shorter.

    Returns:
        "JPEG", "PNG", "GIF", "BMP" or one of `FOREIGN`; None for anything else.

    Example:
        >>> find_kind(b"GIF89a"), find_kind(b"no image")
        ('GIF', None)
    """
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if head.startswith(b"BM") and int.from_bytes(head[14:18], "little") in _BMP_HEADERS:
        return "BMP"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WebP"
    if head.startswith(_TIFF_HEADS):
        return "TIFF"
    if head[4:8] == b"ftyp":
        brands = {head[start : start + 4] for start in range(8, len(head), 4)}
        if brands & {b"avif", b"avis"}:
            return "AVIF"
        if brands & {b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1"}:
            return "HEIC"
    return None


def open_file(path):
    """Opens a file for a few bytes of it; what is none, such as a pipe, keeps nobody waiting.

    Raises:
        OSError: if it cannot be opened.
    """
    return open(path, "rb", buffering=0, opener=_open_at_once)


def _open_at_once(path, flags):
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def read_head(path, num_bytes=HEAD_BYTES):
    """The first bytes of a file, for `find_kind`; none where it cannot be read.

    Raises:
        url_path.StoreError: if a store does not answer.
    """
    if places.is_url(path):
        with contextlib.suppress(FileNotFoundError):
            return places.at(path).read_bytes(num_bytes=num_bytes)
        return b""
    try:
        with open_file(path) as file:
            return file.read(num_bytes) or b""  # None of a pipe that has nothing to say.
    except OSError:
        return b""


def describe_missing(head):
    """What would make a file readable here, in words; "" where there is nothing of the kind.

    Args:
        head: as of `find_kind`; of a JPEG file all up to its size.
    """
    kind = find_kind(head)
    if kind is not None and not can_decode(kind):
        return f" ({kind}, {ADVICE[kind]})"
    if image_size.is_too_large(kind, head):
        height, width = image_size.find(kind, head)
        return f" ({width} x {height} px, too large for the memory: {image_size.ADVICE})"
    return ""


def refuse_giant(encoded):
    """The bytes of a file as they are, or an error in their place where its image is too large.

    Args:
        encoded: scalar string.

    Raises:
        tf.errors.InvalidArgumentError: where `image_size.is_too_large`.
    """

    def is_small(head):
        return np.bool_(not image_size.is_too_large(find_kind(head), head))

    head = tf.strings.substr(encoded, 0, LONG_HEAD_BYTES)
    return _only_if(bytes_call.call(is_small, head, tf.bool), encoded)


@functools.cache
def can_decode(kind):
    """Whether files of a kind, as `find_kind` names it, can be decoded on this machine."""
    if kind not in FOREIGN:
        return kind is not None
    if importlib.util.find_spec("PIL") is None:
        return False
    from PIL import features

    if kind == "HEIC":
        return _register_heic()
    known = {"WebP": "webp", "AVIF": "avif"}
    # Pillow before 11 does not know of AVIF and warns.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return kind == "TIFF" or bool(features.check(known[kind]))


def decode(encoded):
    """Pixels of one encoded PNG, GIF, BMP or foreign file, as `geometric.decode_image` has them.

    Args:
        encoded: scalar string, the bytes of the file.

    Returns:
        [height, width, 3] uint8, RGB.

    Raises:
        tf.errors.InvalidArgumentError: if the bytes are none of these formats, or are broken, or
            the image has more than `image_size.MAX_PIXELS`.
    """

    def decode_png():
        checked = _check_sides(encoded, 16, little_endian=False)
        has_16_bits = _starts_with(checked, 24, b"\x10")
        return tf.cond(
            has_16_bits, lambda: _decode_16_bit_png(checked), lambda: _decode_plain(checked)
        )

    def decode_other():
        # Padding lets the header of a file of a few bytes be read too.
        head = tf.strings.substr(encoded, 0, HEAD_BYTES) + HEAD_BYTES * b"\0"
        cases = [
            (_starts_with(head, 0, b"GIF8"), lambda: _decode_gif(encoded)),
            (_starts_with(head, 0, b"BM"), lambda: _decode_bmp(encoded)),
            (_is_foreign(head), lambda: _decode_foreign(encoded)),
        ]
        return tf.case(cases, default=lambda: _decode_plain(encoded))

    # First, and with little ado, what is most common: each operation counts for small images.
    image = tf.cond(_starts_with(encoded, 0, b"\x89PNG"), decode_png, decode_other)
    return tf.ensure_shape(image, [None, None, 3])


def to_8_bits(pixels):
    """Integers of any range -> [...] uint8: the upper 8 of the bits that the largest one needs.

    So 16 bits per channel lose the lower 8, and a camera's 12 bits in a file of 16 the lower 4.

    Args:
        pixels: [...] integers of at least 0; at least one.

    Example:
        >>> to_8_bits(np.array([0, 255, 4095], np.uint16))
        array([  0,  15, 255], dtype=uint8)
    """
    num_bits = max(8, int(pixels.max()).bit_length())
    return (pixels >> (num_bits - 8)).astype(np.uint8)


def _starts_with(head, position, text):
    return tf.equal(tf.strings.substr(head, position, len(text)), text)


def _only_if(is_right, encoded):
    message = f"An image of more than {image_size.MAX_PIXELS} pixels."
    check = tf.debugging.Assert(is_right, [message])
    with tf.control_dependencies([] if check is None else [check]):
        return tf.identity(encoded)


def _check_sides(encoded, position, little_endian):
    """The file as it is, where the two numbers at a position in it are sides of no giant."""
    sides = tf.strings.substr(encoded, position, 8)
    sides = tf.cast(tf.io.decode_raw(sides, tf.int32, little_endian), tf.float32)
    return _only_if(tf.abs(tf.reduce_prod(sides)) <= image_size.MAX_PIXELS, encoded)


def _is_foreign(head):
    is_webp = _starts_with(head, 0, b"RIFF") & _starts_with(head, 8, b"WEBP")
    is_tiff = _starts_with(head, 0, _TIFF_HEADS[0]) | _starts_with(head, 0, _TIFF_HEADS[1])
    return is_webp | is_tiff | _starts_with(head, 4, b"ftyp")


def _decode_plain(encoded):
    image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
    return tf.ensure_shape(image, [None, None, 3])


def _decode_16_bit_png(encoded):
    pixels = tf.io.decode_png(encoded, channels=3, dtype=tf.uint16)
    thresholds = tf.constant([2**power for power in range(8, 16)])
    # As `to_8_bits`: how many bits beyond 8 the largest value needs.
    largest = tf.cast(tf.reduce_max(pixels), tf.int32)
    spare_bits = tf.reduce_sum(tf.cast(largest >= thresholds, tf.int32))
    return tf.cast(tf.bitwise.right_shift(pixels, tf.cast(spare_bits, tf.uint16)), tf.uint8)


def _read_integer(encoded, position, dtype):
    text = tf.strings.substr(encoded, position, dtype.size)
    return tf.cast(tf.io.decode_raw(text, dtype)[0], tf.int32)


def _decode_gif(encoded):
    return _decode_plain(bytes_call.call(image_size.first_frame, encoded, tf.string))


def _decode_bmp(encoded):
    checked = _check_sides(encoded, 18, little_endian=True)
    bits = _read_integer(checked, 28, tf.uint16)
    cases = [
        (tf.equal(bits, 8), lambda: _decode_palette_bmp(checked)),
        (bits < 24, lambda: _decode_foreign(checked)),  # TensorFlow knows them not.
    ]
    return tf.case(cases, default=lambda: _decode_plain(checked))


def _decode_palette_bmp(encoded):
    """Looks colours up that TensorFlow leaves as indices and would show as grey."""
    indices = tf.io.decode_bmp(encoded)[..., 0]
    palette_start = 14 + _read_integer(encoded, 14, tf.int32)
    pixels_start = _read_integer(encoded, 10, tf.int32)
    length = (pixels_start - palette_start) // 4 * 4
    text = tf.strings.substr(encoded, palette_start, length)
    palette = tf.reshape(tf.io.decode_raw(text, tf.uint8), [-1, 4])
    return tf.gather(palette[:, 2::-1], tf.cast(indices, tf.int32))  # Stored as B, G, R, 0.


def _decode_foreign(encoded):
    image = bytes_call.call(_decode_by_pillow, encoded, tf.uint8)
    message = "A file for Pillow that cannot be decoded here."
    is_decoded = tf.debugging.assert_greater(tf.size(image), 0, message=message)
    with tf.control_dependencies([] if is_decoded is None else [is_decoded]):
        return tf.ensure_shape(tf.identity(image), [None, None, 3])


def _decode_by_pillow(encoded):
    """-> [height, width, 3] uint8, turned as the file asks for; nothing where it is broken."""
    with contextlib.suppress(Exception):  # Each of Pillow's plugins raises what it likes.
        if can_decode(find_kind(encoded[:HEAD_BYTES])):
            from PIL import Image, ImageOps

            with warnings.catch_warnings():
                # Its own bound is lower, and a warning.
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                with Image.open(io.BytesIO(encoded)) as image:
                    if image.width * image.height <= image_size.MAX_PIXELS:
                        return _to_rgb(ImageOps.exif_transpose(image))
    return np.zeros([0, 0, 3], np.uint8)


def _to_rgb(image):
    if image.mode.startswith(("I", "F")):
        pixels = np.asarray(image)
        if pixels.dtype.kind == "f":
            # Physical units: nothing but their own range says what is black and what is white.
            low, high = np.nanmin(pixels), np.nanmax(pixels)
            pixels = np.nan_to_num((pixels - low) * (255 / max(high - low, 1e-12)), nan=0.0)
        pixels = to_8_bits(np.maximum(pixels, 0).astype(np.int64))
        return np.repeat(pixels[..., np.newaxis], 3, axis=-1)
    return np.asarray(image.convert("RGB"))


def _register_heic():
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True
