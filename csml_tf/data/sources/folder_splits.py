"""The splits of a `folder:DIR` data set: which of its sub-folders hold which images."""

import functools
import os

from csml_tf.data.sources import folder, folder_listing
from csml_tf.data.sources.splits import Splits
from csml_tf.errors import InputError

PREFIX = "folder:"
_TESTS = ("test", "val")


def open_splits(dataset, data_dir=None, download=False):
    """Finds the splits of a folder; no image is looked at before one of them is opened.

    Args:
        dataset: str, "folder:DIR"; `~` is the home folder.
        data_dir: not used: the string says where the images lie.
        download: not used.

    Returns:
        `Splits`.

    Raises:
        InputError: if there is no such folder.
    """
    del data_dir, download
    directory = os.path.expanduser(dataset[len(PREFIX) :])
    if not os.path.isdir(directory):
        raise InputError(
            f"There is no folder {os.path.abspath(directory)}: check the path after `folder:`."
        )

    def make_opener(part, class_names=None):
        name = f"{dataset.rstrip('/')}/{part}" if part else dataset
        path = os.path.join(directory, part)
        return functools.partial(folder.FolderSource, path, class_names, name)

    train, test, class_names = _find_parts(directory)
    open_train = make_opener(train)
    open_test = None if test is None else make_opener(test, class_names or None)
    return Splits(open_train, open_test, pretrain=open_train)


def _find_parts(directory):
    """(folder of training images, of test images, training classes): "" is all, None no folder."""
    holding = folder_listing.list_classes(directory)
    if "train" not in holding:
        return "", None, holding
    class_names = folder_listing.list_classes(os.path.join(directory, "train"))
    for test in _TESTS:
        # ImageNet's test images lie in one flat folder, without labels: of no use here.
        if test in holding and bool(class_names) == bool(
            folder_listing.list_classes(os.path.join(directory, test))
        ):
            return "train", test, class_names
    # "train" beside "bicycle" and "bus" is a class; alone or beside splits it is a split.
    is_split = set(holding) <= {"train", *_TESTS}
    return ("train", None, class_names) if is_split else ("", None, holding)
