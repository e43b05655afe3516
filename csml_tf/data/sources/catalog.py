"""From the name of a data set, as users write it, to a source of its images."""

import os

import numpy as np
import tensorflow as tf
from absl import logging

from csml_tf.augment import geometric
from csml_tf.data import balanced_draw
from csml_tf.data.sources import folder, folder_listing, memory
from csml_tf.errors import InputError

SPLITS = ("pretrain", "train", "test")
TEST_FRACTION = 0.2
_FOLDER_TESTS = ("test", "val")
_TFDS_TESTS = ("test", "validation")
_TFDS_UNLABELLED = ("unlabelled", "unlabeled")


def open_source(dataset, split, data_dir=None, download=False, seed=0):
    """Opens the images of one split of a data set.

    "train" and "test" are the pair for evaluation: the data set's own splits, with
    its validation images as "test" if no labelled test images exist. Where there
    are none, a fifth of the images is drawn as "test", in equal shares of each
    class; the log and the source's name say so. The draw depends on `seed` alone:
    use one seed for both.

    "pretrain" is what an encoder may learn from: the training images, and those
    TFDS lists as unlabelled. A folder without split folders gives all its images,
    drawn "test" ones included, because who has no labels wants all of them used.
    `digits` leaves its drawn "test" images out, so that accuracies measured during
    a run are of unseen images.

    Args:
        dataset: str, a TFDS name ("cifar10", "cifar10:3.0.2", "imagenet2012_subset/10pct"),
            "folder:DIR" (class folders or one flat folder, perhaps inside `train/` and
            `test/` or `val/`), or "digits".
        split: str, "pretrain", "train" or "test".
        data_dir: str, where TFDS data sets live; None for TFDS's own place.
        download: bool, whether TFDS may download what is missing.
        seed: int, of the draw of test images.

    Returns:
        An `ImageSource`; labels of "train" and "test" mean the same classes.

    Raises:
        InputError: if the data set cannot be found or read.
        ValueError: if `split` is none of the three.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {SPLITS}, got {split!r}.")
    if dataset == "digits":
        return _draw(memory.load_digits(), dataset, "test" if split == "test" else "train", seed)
    if dataset.startswith("folder:"):
        return _open_folder(dataset, split, seed)
    return _open_tfds(dataset, split, data_dir, download, seed)


def open_images(path):
    """Opens image files that belong to no data set, such as those to look up.

    Args:
        path: str, an image file or a folder of them; `~` is the home folder.

    Returns:
        An `ImageSource` with `paths`.

    Raises:
        InputError: if there is no such file or folder, or no readable image.
    """
    expanded = os.path.expanduser(path)
    if os.path.isdir(expanded):
        return folder.FolderSource(expanded, name=path)
    try:
        with open(expanded, "rb") as file:
            encoded = file.read()
        geometric.decode_image(encoded)
    except OSError as error:
        raise InputError(f"There is no file or folder {path} to read: check the path.") from error
    except tf.errors.OpError as error:
        raise InputError(f"{path} is no readable image: give another file.") from error
    return memory.EncodedSource([encoded], name=path, paths=[expanded])


def _open_folder(dataset, split, seed):
    directory = os.path.expanduser(dataset[len("folder:") :])
    if not os.path.isdir(directory):
        raise InputError(
            f"There is no folder {os.path.abspath(directory)}: check the path after `folder:`."
        )
    train, test = _folder_splits(directory)
    if split == "pretrain" or test is None:
        source = folder.FolderSource(os.path.join(directory, train), name=_join(dataset, train))
        return source if split == "pretrain" else _draw(source, dataset, split, seed)
    chosen = train if split == "train" else test
    class_names = folder_listing.list_classes(os.path.join(directory, train))
    return folder.FolderSource(
        os.path.join(directory, chosen), class_names or None, _join(dataset, chosen)
    )


def _folder_splits(directory):
    """Sub-folders of the training and test images: "" is the folder, None is a draw."""
    holding = folder_listing.list_classes(directory)
    if "train" not in holding:
        return "", None
    has_classes = bool(folder_listing.list_classes(os.path.join(directory, "train")))
    for test in _FOLDER_TESTS:
        # ImageNet's test images lie in one flat folder, without labels: of no use here.
        if test in holding and has_classes == bool(
            folder_listing.list_classes(os.path.join(directory, test))
        ):
            return "train", test
    # "train" beside "bicycle" and "bus" is a class; alone or beside splits it is a split.
    is_split = set(holding) <= {"train", *_FOLDER_TESTS}
    return ("train", None) if is_split else ("", None)


def _open_tfds(dataset, split, data_dir, download, seed):
    # Here, so that folders and digits can be read where TFDS cannot be imported.
    from csml_tf.data.sources import tfds

    builder = tfds.make_builder(dataset, data_dir, download)
    splits = list(builder.info.splits)
    is_pair = "train" in splits
    tests = [name for name in _TFDS_TESTS if is_pair and name in splits]
    if split == "test" and tests:
        # Labels of test images are often secret; without any labels the first will do.
        labelled = [name for name in tests if len(tests) > 1 and tfds.is_labelled(builder, name)]
        return tfds.load_tfds(dataset, (labelled or tests)[0], data_dir)
    if not is_pair:
        train = "+".join(splits)
    elif split == "pretrain":
        train = "+".join(["train", *(name for name in _TFDS_UNLABELLED if name in splits)])
    else:
        train = "train"
    source = tfds.load_tfds(dataset, train, data_dir)
    if split == "pretrain" or tests:
        return source
    return _draw(source, dataset, split, seed)


def _draw(source, dataset, split, seed):
    """The drawn "train" or "test" part of a source that has no splits of its own."""
    if len(source) < 2:
        raise InputError(
            f"{dataset} holds 1 image and has no test split: at least 2 images are needed."
        )
    is_test = draw_test_images(len(source), source.labels, seed)
    share = TEST_FRACTION if split == "test" else 1 - TEST_FRACTION
    name = f"{dataset}:{split} ({share:.0%} of {source.name}, drawn with seed {seed})"
    if split == "test":  # Once for the pair.
        logging.info("%s has no test split of its own, using %s.", dataset, name)
    return source.subset(np.flatnonzero(is_test == (split == "test")), name)


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


def _join(dataset, part):
    return f"{dataset.rstrip('/')}/{part}" if part else dataset
