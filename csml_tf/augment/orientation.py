"""How a photograph is to be turned before it is looked at: EXIF's orientation in a JPEG file."""

import numpy as np
import tensorflow as tf

from csml_tf.augment import bytes_call

# Where EXIF lies in the files of cameras and phones.
_HEAD_BYTES = 2**16
_TAG = 0x0112
_EXIF = b"Exif\0\0"


def find(encoded):
    """The orientation that a JPEG file asks for.

    Args:
        encoded: scalar string, the bytes of a JPEG file.

    Returns:
        Scalar int32 from 1 to 8, EXIF's numbers; 1, as it is stored, where nothing is said.
    """
    return _find(encoded)[0]


def forget(encoded):
    """The same file without its orientation, so that every decoder shows it as it is stored.

    Args:
        encoded: scalar string, the bytes of an image file of any kind.

    Returns:
        Scalar string; the file itself where it is no JPEG or says nothing.
    """

    def cut():
        number, start = tf.unstack(_find(encoded))

        def without():
            before = tf.strings.substr(encoded, 0, start)
            after = tf.strings.substr(encoded, start + len(_EXIF), -1)
            return before + b"none\0\0" + after

        return tf.cond(number > 1, without, lambda: encoded)

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


def _find(encoded):
    """-> [2] int32: the orientation, and where the word "Exif" begins."""
    # Most files from the web have one short segment, and then the image: they say nothing.
    padded = tf.strings.substr(encoded, 0, 22) + 22 * b"\0"
    is_plain = tf.equal(tf.strings.substr(padded, 3, 1), b"\xe0")
    is_plain &= tf.equal(tf.strings.substr(padded, 20, 2), b"\xff\xdb")

    def look():
        head = tf.strings.substr(encoded, 0, _HEAD_BYTES)
        return tf.ensure_shape(bytes_call.call(_parse, head, tf.int32), [2])

    return tf.cond(is_plain, lambda: tf.constant([1, 0]), look)


def _parse(head):
    position, number = 2, 1
    # Application data and comments come before the image, which ends the search.
    while head[position : position + 1] == b"\xff" and len(head) > position + 4:
        code = head[position + 1]
        if code == 0xE1 and head.startswith(_EXIF, position + 4):
            number = _read_tag(head[position + 4 + len(_EXIF) :])
            break
        if not (0xE0 <= code <= 0xEF or code == 0xFE):
            break
        position += 2 + int.from_bytes(head[position + 2 : position + 4], "big")
    return np.array([number, position + 4], np.int32)


def _read_tag(tiff):
    order = "little" if tiff.startswith(b"I") else "big"

    def number(position, count):
        return int.from_bytes(tiff[position : position + count], order)

    first = number(4, 4) + 2
    for entry in range(first, first + 12 * number(first - 2, 2), 12):
        if number(entry, 2) == _TAG:
            return number(entry + 8, 2) if 1 <= number(entry + 8, 2) <= 8 else 1
    return 1
