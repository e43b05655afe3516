"""How a photograph is to be turned before it is looked at: EXIF's orientation in a JPEG file."""

import functools

import tensorflow as tf

# Where EXIF lies in the files of cameras and phones: in one of the first segments.
_HEAD_BYTES = 2**16
_MAX_SEGMENTS = 6
_MAX_ENTRIES = 64
_TAG = 0x0112
_EXIF = b"Exif\0\0"


def find(encoded):
    """The orientation that a JPEG file asks for.

    Args:
        encoded: scalar string, the bytes of a JPEG file.

    Returns:
        Scalar int32 from 1 to 8, EXIF's numbers; 1, as it is stored, where nothing is said.
    """
    return _find(_head(encoded))[0]


def forget(encoded):
    """The same file without its orientation, so that every decoder shows it as it is stored.

    Args:
        encoded: scalar string, the bytes of an image file of any kind.

    Returns:
        Scalar string; the file itself where it is no JPEG or says nothing.
    """

    def cut():
        number, start = _find(_head(encoded))
        before = tf.strings.substr(encoded, 0, start)
        after = tf.strings.substr(encoded, start + len(_EXIF), -1)
        return tf.cond(number > 1, lambda: before + b"none\0\0" + after, lambda: encoded)

    return tf.cond(tf.io.is_jpeg(encoded), cut, lambda: encoded)


def turn(image, orientation):
    """An image as it is stored -> as it is to be looked at.

    Args:
        image: [height, width, 3].
        orientation: scalar int32 from 1 to 8.

    Returns:
        The same pixels; height and width change places from orientation 5 on.
    """

    def turned():
        swapped = tf.cond(
            is_transposed(orientation), lambda: tf.transpose(image, [1, 0, 2]), lambda: image
        )
        return tf.reverse(swapped, tf.boolean_mask([0, 1], flips(orientation)))

    return tf.cond(orientation > 1, turned, lambda: image)


def is_transposed(orientation):
    """Whether rows and columns change places: scalar bool."""
    return orientation >= 5


def flips(orientation):
    """Whether rows and whether columns run backwards, after the change of places: [2] bool."""
    rows = tf.reduce_any(orientation == [3, 4, 7, 8])
    columns = tf.reduce_any(orientation == [2, 3, 6, 7])
    return tf.stack([rows, columns])


def _head(encoded):
    return tf.io.decode_raw(encoded, tf.uint8, fixed_length=_HEAD_BYTES)


# A hundred tiny operations in one.
@functools.partial(tf.function, autograph=False, jit_compile=True)
def _find(head):
    """-> (orientation; where the word "Exif" begins, 0 if nowhere): scalar int32 each."""

    def read(position, count):
        """[...] positions -> [..., count] bytes."""
        positions = position[..., None] + tf.range(count)
        return tf.cast(tf.gather(head, tf.clip_by_value(positions, 0, _HEAD_BYTES - 1)), tf.int32)

    position, exif = tf.constant(2), tf.constant(0)
    for _ in range(_MAX_SEGMENTS):
        segment = read(position, 4 + len(_EXIF))
        code, length = segment[1], 256 * segment[2] + segment[3]
        is_exif = (code == 0xE1) & tf.reduce_all(segment[4:] == list(_EXIF))
        exif = tf.where((exif == 0) & is_exif & (segment[0] == 0xFF), position + 4, exif)
        # Application data and comments come before the image, which ends the search.
        is_passed = (segment[0] == 0xFF) & (((code >= 0xE0) & (code <= 0xEF)) | (code == 0xFE))
        position = tf.where(is_passed, position + 2 + length, position)
    start = exif + len(_EXIF)
    is_little = read(start, 1)[0] == ord("I")

    def number(positions, count):
        digits = read(positions, count)
        digits = tf.where(is_little, digits[..., ::-1], digits)
        return tf.reduce_sum(digits * [256**power for power in range(count)][::-1], axis=-1)

    # The upper byte of four would only lead out of the head.
    directory = start + tf.where(is_little, number(start + 4, 3), number(start + 5, 3))
    rows = tf.range(_MAX_ENTRIES)
    entries = directory + 2 + 12 * rows
    is_asked = (number(entries, 2) == _TAG) & (rows < number(directory, 2))
    value = tf.reduce_max(tf.where(is_asked, number(entries + 8, 2), 0))
    is_known = (exif > 0) & (value >= 1) & (value <= 8)
    return tf.where(is_known, value, 1), exif
