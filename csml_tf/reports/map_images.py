"""The images of the feature map and the projector: features, thumbnails, and what they are."""

import dataclasses
import math
import os

import numpy as np
import tensorflow as tf

from csml_tf import features
from csml_tf.augment.center_view import CenterView
from csml_tf.data import originals

# A multiple of 8, the block of JPEG, so that no thumbnail colours the next one's edge.
_MAX_THUMBNAIL_PX = 64
_BLOCK_PX = 8
_MAX_SPRITE_PX = 5120
_MAX_PNG_BYTES = 2**20
_JPEG_QUALITY = 90


@dataclasses.dataclass(frozen=True)
class MapImages:
    """Some images, in the order of their rows.

    Attributes:
        values: [n, dim] float32 features of unit length.
        thumbnails: [n, size, size, 3] uint8, the central square of each.
        labels: [n] integer class numbers, -1 where unknown.
        class_names: tuple of str, or None.
        sets: [n] list of str, "held-out" or "training".
        names: [n] list of str, index in its source, and file where there is one.
        paths: [n] list of str, the file, or the name of the source and the index in it.
    """

    values: np.ndarray
    thumbnails: np.ndarray
    labels: np.ndarray
    class_names: tuple
    sets: list
    names: list
    paths: list

    def __len__(self):
        return len(self.values)

    def class_name(self, i):
        """Of image i; "no class" where unknown."""
        if self.labels[i] < 0:
            return "no class"
        return originals.class_name(self.class_names, self.labels[i])

    def take(self, rows):
        """Some of the images, by their rows, in that order."""
        return MapImages(
            self.values[rows],
            self.thumbnails[rows],
            self.labels[rows],
            self.class_names,
            *([texts[i] for i in rows] for texts in (self.sets, self.names, self.paths)),
        )

    def describe(self, i):
        """Class, set, index and file of image i, in a line."""
        known = [self.class_name(i)] if self.labels[i] >= 0 else []
        return ", ".join([*known, f"{self.sets[i]} image {self.names[i]}"])


def gather(test, train, max_images, seed):
    """Held-out images first, then as many training images as there is room for.

    Args:
        test: `trained_features.ImageFeatures`.
        train: the same; its class numbers mean the same classes.
        max_images: of both together.
        seed: of the draws.

    Returns:
        `MapImages`.
    """
    size = thumbnail_px(test.source, min(max_images, len(test.source) + len(train.source)))
    sets, names, files, values, thumbnails, labels = [], [], [], [], [], []
    for kind, images in (("held-out", test), ("training", train)):
        room = max_images - len(sets)
        if room <= 0:
            break
        count = len(images.source)
        rows = np.arange(count)
        if count > room:
            rows = np.sort(np.random.default_rng(seed).choice(count, room, replace=False))
        source = images.source.subset(rows)
        values.append(images.values[rows])
        thumbnails.append(_thumbnails(source, size))
        known = source.labels
        labels.append(np.full(len(rows), -1) if known is None else known)
        paths = source.paths
        files += paths or [f"{images.source.name}[{row}]" for row in rows]
        sets += [kind] * len(rows)
        names += [
            f"#{row}" if paths is None else f"#{row} {os.path.basename(paths[i])}"
            for i, row in enumerate(rows)
        ]
    return MapImages(
        np.concatenate(values),
        np.concatenate(thumbnails),
        np.concatenate(labels),
        test.source.class_names,
        sets,
        names,
        files,
    )


def thumbnail_px(source, num_images):
    """Height and width of the thumbnails: of small images about their own size.

    Of many images less, so that a sprite of all of them can be drawn quickly.
    """
    most = _MAX_SPRITE_PX // _columns(num_images) // _BLOCK_PX * _BLOCK_PX
    most = max(_BLOCK_PX, min(_MAX_THUMBNAIL_PX, most))
    if source.image_shape is None:
        return most
    return min(most, _BLOCK_PX * math.ceil(min(source.image_shape) / _BLOCK_PX))


def make_sprite(thumbnails):
    """[n, size, size, 3] -> one square image of all, row by row from the top left.

    Returns:
        [columns * size, columns * size, 3] uint8, white where no image is left;
        `columns` is the least number whose square is n or more.
    """
    count, size = thumbnails.shape[:2]
    columns = _columns(count)
    cells = np.full([columns**2, size, size, 3], 255, np.uint8)
    cells[:count] = thumbnails
    cells = cells.reshape([columns, columns, size, size, 3])
    return cells.transpose([0, 2, 1, 3, 4]).reshape([columns * size, columns * size, 3])


def _columns(count):
    return math.ceil(math.sqrt(count))


def encode_png(image):
    """[height, width, 3] uint8 -> bytes of a PNG file."""
    return tf.io.encode_png(image).numpy()


def encode_small(image, max_png_bytes=_MAX_PNG_BYTES):
    """The bytes and the media type of an image: PNG, or JPEG where that would be large."""
    if image.nbytes <= max_png_bytes:
        return encode_png(image), "image/png"
    encoded = tf.io.encode_jpeg(image, "rgb", _JPEG_QUALITY, chroma_downsampling=False)
    return encoded.numpy(), "image/jpeg"


def _thumbnails(source, size):
    view = CenterView(size, size, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    flat = features.extract_features(features.flatten, source, view, description="thumbnails")
    return np.round(flat.reshape([-1, size, size, 3]) * 255).astype(np.uint8)
