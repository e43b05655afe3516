"""From a data set string, as users write it, to one data set whose splits are opened once."""

import os

import numpy as np
import tensorflow as tf
from absl import logging

from csml_tf import places
from csml_tf.augment import geometric, image_kinds
from csml_tf.data import balanced_draw
from csml_tf.data.sources import csv_splits, folder, folder_classes, folder_splits, memory, patches
from csml_tf.errors import InputError

SPLITS = ("pretrain", "train", "test")
TEST_FRACTION = 0.2


def open_dataset(dataset, data_dir=None, download=False, seed=0):
    """Finds a data set; its images are opened split by split, when they are asked for.

    Args:
        dataset: str, a TFDS name ("cifar10", "cifar10:3.0.2", "imagenet2012_subset/10pct"),
            "folder:DIR" (class folders or one flat folder, perhaps inside `train/` and
            `test/` or `val/`), "csv:FILE" (a path and a class in each row), "digits" or
            "patches".
        data_dir: str, where TFDS data sets live; None for TFDS's own place.
        download: bool, whether TFDS may download what is missing.
        seed: int, of the draw of test images.

    Returns:
        `Dataset`.

    Raises:
        InputError: if the data set cannot be found.
    """
    if dataset.startswith((".", "/", "~")) or not dataset or places.is_url(dataset):
        raise InputError(
            f"{dataset!r} is no name of a data set: for the images of a folder say "
            f"folder:{dataset or 'DIR'}."
        )
    # "folder:DIR" begins with "folder:", and so does "folder+top:DIR", which has an option; the
    # kind without a prefix, such as "digits", is its whole name.
    start, colon, _ = dataset.partition(":")
    kind = start.partition("+")[0] + colon if colon else dataset
    open_splits = _KINDS.get(kind, _open_tfds)
    return Dataset(dataset, open_splits(dataset, data_dir, download), seed)


class Dataset:
    """A data set whose splits are opened once each, and together where they share images.

    "train" and "test" are the pair for evaluation: the data set's own splits, with
    its validation images as "test" if no labelled test images exist. Where there
    are none, a fifth of the images is drawn as "test", in equal shares of each
    class; the log and the source's name say so. The draw depends on `seed` alone.

    "pretrain" is what an encoder may learn from: the training images, and those
    TFDS lists as unlabelled. A folder without split folders gives all its images,
    drawn "test" ones included, because who has no labels wants all of them used.
    `digits` leaves its drawn "test" images out, so that accuracies measured during
    a run are of unseen images.

    Args:
        name: str, the data set string.
        splits: `sources.splits.Splits`.
        seed: int, of the draw of test images.
    """

    def __init__(self, name, splits, seed=0):
        self.name = name
        self._splits = splits
        self._seed = seed
        self._opened = {}
        self._split_sources = {}

    @property
    def notes(self):
        """What was found, a list of str: a whole line each.

        Which images are which split, what made the classes, what is left out. Lines come as
        splits are opened.
        """
        return list(self._splits.notes)

    def split(self, split):
        """The images of one split.

        Args:
            split: str, "pretrain", "train" or "test".

        Returns:
            An `ImageSource`, the same one each time; labels of "train" and "test" mean the
            same classes.

        Raises:
            InputError: if the images cannot be read, or are too few to draw from.
            ValueError: if `split` is none of the three.
        """
        if split not in SPLITS:
            raise ValueError(f"split must be one of {SPLITS}, got {split!r}.")
        if split not in self._split_sources:
            self._split_sources[split] = self._make(split)
        return self._split_sources[split]

    def _make(self, split):
        if split == "pretrain":
            opener = self._splits.pretrain
            return self.split("train") if opener is None else self._open(opener)
        if self._splits.test is None:
            return self._draw(self._open(self._splits.train), split)
        return self._open(self._splits.test if split == "test" else self._splits.train)

    def _open(self, opener):
        """What a function of `Splits` opens, once."""
        if opener not in self._opened:
            self._opened[opener] = opener()
        return self._opened[opener]

    def _draw(self, source, split):
        """The drawn "train" or "test" part of a source that has no splits of its own."""
        if len(source) < 2:
            raise InputError(
                f"{self.name} holds 1 image and has no test split: at least 2 images are needed."
            )
        is_test = draw_test_images(len(source), source.labels, self._seed)
        share = TEST_FRACTION if split == "test" else 1 - TEST_FRACTION
        name = f"{self.name}:{split} ({share:.0%} of {source.name}, drawn with seed {self._seed})"
        if split == "test":  # Once for the pair.
            note = f"{self.name} has no test split of its own, using {name}."
            logging.info("%s", note)
            self._splits.notes.append(note)
        return source.subset(np.flatnonzero(is_test == (split == "test")), name)


def open_images(path):
    """Opens image files that belong to no data set, such as those to look up.

    Args:
        path: str, an image file or a folder of them, or the URL of one; `~` is the home folder.

    Returns:
        An `ImageSource` with `paths`.

    Raises:
        InputError: if there is no such file or folder, or no readable image.
    """
    expanded = places.find(path)
    if places.is_folder(expanded):
        # To look images up takes all of them, whatever classes they may have.
        everything = folder_classes.list_everything(expanded)
        return folder.FolderSource(expanded, name=path, listing=everything)
    try:
        encoded = places.at(expanded).read_bytes()
        geometric.decode_image(encoded)
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"There is no file or folder {path} to read: check the path.") from error
    except tf.errors.OpError as error:
        missing = image_kinds.describe_missing(encoded[: image_kinds.HEAD_BYTES])
        raise InputError(f"{path} is no readable image{missing}: give another file.") from error
    return memory.EncodedSource([encoded], name=path, paths=[expanded])


def draw_test_images(num_images, labels=None, seed=0):
    """Draws a fifth of the images for testing, in equal shares of each class, by `balanced_draw`.

    Args:
        num_images: int, at least 2.
        labels: [num_images] integers, or None.
        seed: int.

    Returns:
        [num_images] bool, True for test images; at least one of each kind.

    Example:
        >>> draw_test_images(10, labels=[0] * 5 + [1] * 5).reshape(2, 5).sum(axis=1)
        array([1, 1])
    """
    return balanced_draw.draw(num_images, TEST_FRACTION, labels, seed)


def _open_tfds(dataset, data_dir, download):
    # Here, so that folders and digits can be read where TFDS cannot be imported.
    from csml_tf.data.sources import tfds

    try:
        return tfds.open_splits(dataset, data_dir, download)
    except InputError as error:
        if not os.path.isdir(dataset):
            raise
        raise InputError(
            f"{str(error).rstrip('.')}; there is a folder of that name: say folder:{dataset} for "
            "its images."
        ) from error


# A new kind of data set is a file in sources/ and a row here: what its strings begin with, up to
# the colon, and a function of (data set string, data_dir, download) that returns its `Splits`.
# All other strings are names of TFDS.
_KINDS = {
    "digits": memory.open_digits,
    "patches": patches.open_patches,
    folder_splits.PREFIX: folder_splits.open_splits,
    csv_splits.PREFIX: csv_splits.open_splits,
}
