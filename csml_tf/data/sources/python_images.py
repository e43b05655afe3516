"""Images that a Python program holds: arrays, or the paths of files."""

import functools
import os
from typing import Any

import numpy as np
import tensorflow as tf

from csml_tf import amounts, places
from csml_tf.data.sources import base, file_scan, left_out, memory
from csml_tf.data.sources.broken_images import find_decodable
from csml_tf.errors import InputError


def make_source(images: Any) -> base.ImageSource:
    """A source of images that are given as Python objects.

    Args:
        images: [n, height, width, 3] uint8 array, values of 0 to 255, or [n, height, width]
            if grey; a list of such images of any sizes; or a list of paths of image files,
            whose bytes are read into memory.

    Returns:
        `ImageSource` without labels, in the order given.

    Raises:
        InputError: if they are none of these, or a file cannot be read.

    Example:
        >>> make_source(np.zeros([2, 8, 8, 3], np.uint8)).name
        '2 images in memory'
    """
    if isinstance(images, base.ImageSource):
        return images
    if isinstance(images, (np.ndarray, tf.Tensor)):
        return _of_array(np.asarray(images))
    if not isinstance(images, (list, tuple)) or not images:
        raise InputError(
            f"Images are an array, a list of arrays or a list of paths, got {_describe(images)}: "
            "give one of these with at least one image."
        )
    if all(isinstance(image, (str, os.PathLike)) for image in images):
        return _of_files([places.find(os.fspath(image)) for image in images])
    arrays = [np.asarray(image) for image in images]
    if len({array.shape for array in arrays}) == 1:
        return _of_array(np.stack(arrays))
    encoded = [_encode(array) for array in arrays]
    return memory.EncodedSource(encoded, name=f"{amounts.count(len(arrays), 'image')} in memory")


def _of_array(images):
    _check(images, images.dtype, images.ndim - 1, images.shape[3:])
    return memory.MemorySource(images, name=f"{amounts.count(len(images), 'image')} in memory")


def _encode(image):
    """An image as PNG, which loses nothing: images of several sizes are no array."""
    _check(image, image.dtype, image.ndim, image.shape[2:])
    return tf.io.encode_png(image[..., np.newaxis] if image.ndim == 2 else image).numpy()


def _check(images, dtype, rank, channels):
    if dtype != np.uint8:
        raise InputError(
            f"Images must be uint8 with values of 0 to 255, got {_describe(images)}: multiply "
            "those in [0, 1] by 255, and convert them with .astype('uint8')."
        )
    if rank not in (2, 3) or channels not in ((), (1,), (3,)) or 0 in images.shape:
        raise InputError(
            "Images must be [n, height, width, 3] in RGB, or [n, height, width] in grey, got "
            f"{_describe(images)}: bring them into one of these shapes."
        )


def _of_files(paths):
    is_good = file_scan.scan_files("", paths).is_good
    _refuse([path for path, good in zip(paths, is_good) if not good], paths)
    encoded = [places.at(path).read_bytes() for path in paths]
    source = memory.EncodedSource(encoded, name=amounts.count(len(paths), "file"), paths=paths)
    indices = np.arange(len(source))
    is_good = find_decodable(
        functools.partial(source.read_with, decode=tf.identity), indices, len(paths)
    )
    _refuse([path for path, good in zip(paths, is_good) if not good], paths)
    return source


def _refuse(bad, paths):
    if bad:
        raise InputError(
            f"{len(bad)} of {len(paths)} files are missing or no whole images: "
            f"{left_out.name_unreadable('', bad)}; leave them out."
        )


def _describe(images):
    if isinstance(images, np.ndarray):
        return f"{images.dtype} {list(images.shape)}"
    is_empty = isinstance(images, (list, tuple)) and not images
    return f"an empty {type(images).__name__}" if is_empty else f"a {type(images).__name__}"
