"""The contract of an image source: `len(source)` images, any of them by index."""

import abc
import hashlib

import numpy as np
import tensorflow as tf

from csml_tf.augment import geometric


class ImageSource(abc.ABC):
    """Images with random access, so that a neighbor can be loaded by its index.

    The order never changes: index i is the same image in every process that
    opens the same data, which is what neighbor tables and resumed runs rely on.

    There are two kinds. Where `image_shape` is not None, the images are decoded in
    memory and the source implements `read`, for batches too. Where it is None, they
    are encoded files of any size and it implements `read_with`, so that the caller
    chooses how much of a file is decoded.

    Attributes:
        name: str, as the user would write it, for example "cifar10:train".
        labels: [len] np.int64, class numbers, -1 where unknown; None if there are none.
            Where they lie beside the images on disk, the first use reads them all.
        class_names: tuple of str, by class number; None if unknown.
        image_shape: (height, width) in pixels if all images are alike and decoded in
            memory, else None.
        paths: list of str, the files the images come from; None if not from files.
    """

    name = ""
    labels = None
    class_names = None
    image_shape = None
    paths = None

    @abc.abstractmethod
    def __len__(self):
        """Number of images."""

    @property
    @abc.abstractmethod
    def fingerprint(self):
        """Short hex digest of which images these are and in which order."""

    def read_with(self, index, decode):
        """What `decode` makes of the encoded image at `index`; usable inside a tf.data map.

        So a caller can look at an image's header and decode the part that it needs,
        or cut several views of it, from one read.

        Args:
            index: scalar int64 in [0, len).
            decode: function of a scalar string, the bytes of an image file, that returns
                a tensor or a nest of tensors.

        Returns:
            As `decode` returns it.

        Raises:
            ValueError: if `image_shape` is not None: those images are not encoded.
        """
        raise ValueError(f"The images of {self.name} are not encoded: use `read`.")

    def read(self, index):
        """Pixels by index; usable inside a tf.data map.

        Args:
            index: scalar int64 in [0, len), or [batch] if `image_shape` is not None.

        Returns:
            [height, width, 3] uint8, RGB; [batch, height, width, 3] for a batch.
        """
        return self.read_with(index, geometric.decode_image)

    def keep(self, key, make):
        """What `make()` has returned the first time, as long as this source lives.

        Args:
            key: hashable, of what is kept.
            make: function of no arguments.
        """
        kept = self.__dict__.setdefault("_kept", {})
        if key not in kept:
            kept[key] = make()
        return kept[key]

    def subset(self, indices, name=None):
        """The images at `indices`, in that order; a view, no pixel is copied.

        Args:
            indices: [count] integers in [0, len).
            name: str; default is this source's name and the two counts.

        Returns:
            An `ImageSource` of `count` images.

        Raises:
            ValueError: if `indices` are not integers in range.
        """
        return SubsetSource(self, indices, name)


class SubsetSource(ImageSource):
    """Some images of another source, under new indices; made by `subset`."""

    def __init__(self, parent, indices, name=None):
        indices = np.asarray(indices)
        if indices.ndim != 1 or (indices.size and indices.dtype.kind not in "iu"):
            raise ValueError(
                f"indices must be a list of integers, got {indices.dtype} {indices.shape}."
            )
        if indices.size and not 0 <= indices.min() <= indices.max() < len(parent):
            raise ValueError(f"indices must be in [0, {len(parent)}) for {parent.name}.")
        self.name = name or f"{parent.name}[{len(indices)} of {len(parent)}]"
        self.class_names = parent.class_names
        self.image_shape = parent.image_shape
        self._parent = parent
        self._numpy_indices = indices.astype(np.int64)
        self._indices = host_constant(self._numpy_indices)

    def __len__(self):
        return len(self._numpy_indices)

    @property
    def labels(self):
        # When asked for: a source that keeps its labels on disk reads them all.
        labels = self._parent.labels
        return None if labels is None else labels[self._numpy_indices]

    @property
    def paths(self):
        paths = self._parent.paths
        return None if paths is None else [paths[i] for i in self._numpy_indices]

    @property
    def fingerprint(self):
        return digest(self._parent.fingerprint.encode(), self._numpy_indices)

    def read_with(self, index, decode):
        return self._parent.read_with(tf.gather(self._indices, index), decode)

    def read(self, index):
        return self._parent.read(tf.gather(self._indices, index))


def check_labels(labels, class_names, num_images):
    """Labels and class names in the form that `ImageSource` promises.

    Args:
        labels: [num_images] integers, or None.
        class_names: iterable of str, or None.
        num_images: int.

    Returns:
        ([num_images] np.int64 or None, tuple of str or None).

    Raises:
        ValueError: if there is not one label per image.
    """
    if labels is not None:
        labels = np.asarray(labels, np.int64)
        if labels.shape != (num_images,):
            raise ValueError(f"labels must be [{num_images}], one an image, got {labels.shape}.")
    return labels, None if class_names is None else tuple(class_names)


def digest(*parts):
    """Short hex digest of bytes and arrays, in order; array shapes count."""
    state = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            state.update(f"{part.dtype}{part.shape}".encode())
            part = np.ascontiguousarray(part).data
        state.update(part)
    return state.hexdigest()[:16]


def host_constant(value):
    """A tensor in the host's memory, where tf.data runs, even if there is a GPU."""
    with tf.device("/CPU:0"):
        return tf.constant(value)
