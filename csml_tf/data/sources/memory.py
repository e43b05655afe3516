"""Sources in memory: decoded images of one size, or encoded files of any size."""

import numpy as np
import tensorflow as tf

from csml_tf.data.sources import base
from csml_tf.data.sources.broken_images import StandIns
from csml_tf.data.sources.splits import Splits


class MemorySource(base.ImageSource):
    """Decoded images of one size; the only source that reads whole batches.

    Args:
        images: [n, height, width], [n, height, width, 1] or [n, height, width, 3]
            uint8; grey images are repeated into three channels when read.
        labels: [n] integers, or None.
        class_names: iterable of str by class number, or None.
        name: str, how the source is called in logs.

    Raises:
        ValueError: if `images` or `labels` have another type or shape.

    Example:
        >>> source = MemorySource(np.full([2, 1, 1], 7, np.uint8))
        >>> source.read([1, 0, 1]).shape.as_list(), source.read(1).numpy().tolist()
        ([3, 1, 1, 3], [[[7, 7, 7]]])
    """

    def __init__(self, images, labels=None, class_names=None, name="memory"):
        if images.dtype != np.uint8 and images.dtype != tf.uint8:
            raise ValueError(f"images must be uint8 in 0..255, got {images.dtype}.")
        if len(images.shape) not in (3, 4) or tuple(images.shape[3:]) not in ((), (1,), (3,)):
            raise ValueError(f"images must be [n, h, w] or [n, h, w, 1 or 3], got {images.shape}.")
        # An eager tensor is captured by reference; an array would be copied into each graph.
        self._images = base.host_constant(images)
        if len(self._images.shape) == 3:
            self._images = self._images[..., tf.newaxis]
        self.name = name
        self.image_shape = tuple(self._images.shape[1:3])
        self.labels, self.class_names = base.check_labels(labels, class_names, len(self))
        self._fingerprint = None

    def __len__(self):
        return self._images.shape[0]

    @property
    def fingerprint(self):
        if self._fingerprint is None:
            self._fingerprint = base.digest(self._images.numpy())
        return self._fingerprint

    def read(self, index):
        with tf.device("/CPU:0"):
            images = tf.gather(self._images, index)
            if images.shape[-1] == 1:
                images = tf.repeat(images, 3, axis=-1)
        return images


class EncodedSource(base.ImageSource):
    """Encoded image files in memory, decoded when read.

    Args:
        encoded: [n] tf.string, bytes of JPEG, PNG, GIF or BMP files.
        labels: [n] integers, or None.
        class_names: iterable of str by class number, or None.
        name: str, how the source is called in logs.
        paths: [n] str, the files that they come from, or None.
        note_broken: function of an int, the index of an image that cannot be decoded, for which
            the next one stands in, see `broken_images`; None where reading it is an error.

    Raises:
        ValueError: if there is not one label per image.
    """

    def __init__(
        self,
        encoded,
        labels=None,
        class_names=None,
        name="encoded",
        paths=None,
        note_broken=None,
    ):
        self._encoded = encoded if tf.is_tensor(encoded) else base.host_constant(encoded)
        self.name = name
        self.paths = paths
        self.labels, self.class_names = base.check_labels(labels, class_names, len(self))
        self._stand_ins = None
        if note_broken is not None:
            self._stand_ins = StandIns(len(self), self._gather, note_broken)

    def __len__(self):
        return self._encoded.shape[0]

    @property
    def fingerprint(self):
        # Sizes of the files and a few whole ones: hashing all of ImageNet takes minutes.
        sizes = tf.strings.length(self._encoded).numpy()
        sample = self._encoded[:: max(1, len(self) // 64)].numpy()
        return base.digest(sizes, *sample)

    def read_with(self, index, decode):
        if self._stand_ins is not None:
            index = self._stand_ins.find(tf.cast(index, tf.int64))
        return decode(self._gather(index))

    def _gather(self, index):
        return tf.gather(self._encoded, index)


def load_digits():
    """scikit-learn's handwritten digits: 1797 real scans that need no download.

    Returns:
        A `MemorySource` of 8 x 8 px images; their 17 grey levels are spread over 0..255.
    """
    from sklearn import datasets  # Takes a second to import, and only this needs it.

    digits = datasets.load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)
    names = [str(name) for name in digits.target_names]
    return MemorySource(images, digits.target, names, name="digits")


def open_digits(dataset="digits", data_dir=None, download=False):
    """The splits of "digits": it has none of its own, and drawn test images are held out."""
    del dataset, data_dir, download  # Nothing to choose.
    return Splits(load_digits, test=None, pretrain=None)
