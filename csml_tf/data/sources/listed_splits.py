"""The splits of a data set of image files, from what is listed for each."""

import functools
import re

import numpy as np
from absl import logging

from csml_tf.data.sources import folder, listing
from csml_tf.data.sources.splits import Splits
from csml_tf.errors import InputError

# Behind the kind in a data set string, `folder+no_exif:DIR`: photographs as they are stored.
NO_EXIF = "no_exif"


def parse(dataset, known):
    """Takes a data set string apart.

    Args:
        dataset: str, such as "folder+top:photos".
        known: names of the options there are.

    Returns:
        (path, set of options).

    Raises:
        InputError: if there is an unknown option.

    Example:
        >>> parse("folder+top:photos", ["top"])
        ('photos', {'top'})
    """
    start, _, path = dataset.partition(":")
    kind, *options = start.split("+")
    if not path:
        raise InputError(f"{dataset!r} names no place: write its path behind the colon.")
    for option in options:
        if option not in known:
            raise InputError(
                f"There is no option +{option} in {dataset!r}: {kind} knows "
                f"{', '.join('+' + name for name in sorted(known))}."
            )
    return path, set(options)


def split_several(dataset, kind):
    """The single data sets of "folder:A,folder:B"; a comma in a path is a comma.

    Args:
        dataset: str, data set string of one kind or several of this kind.
        kind: str, "folder".
    """
    return re.split(rf",(?={kind}(?:\+\w+)*:)", dataset)


def make_splits(name, find, notes, obeys_exif=True):
    """The splits of a data set of files; none is opened yet.

    Args:
        name: {split: str}, how the source of each split is called.
        find: function of no arguments that returns {split: function of no arguments that
            returns a `listing.Listing`}, with "train", and with "test" and "unlabelled" where
            there are such images; called once unless a split is opened several times.
        notes: list of str, what is to be said of the data set.
        obeys_exif: whether photographs are turned as EXIF says.

    Returns:
        `Splits`.
    """
    found = find()
    has_test, has_unlabelled = "test" in found, "unlabelled" in found
    notes = list(notes)
    for note in notes:
        logging.info("%s", note)

    def take(split):
        """What is listed for a split; a million names are kept no longer than needed."""
        if split not in found:
            found.update(find())
        return found.pop(split)()

    def open_files(files, source_name):
        source = folder.FolderSource(
            files.directory, name=source_name, listing=files, obeys_exif=obeys_exif
        )
        notes.extend(note for note in source.notes if note not in notes)
        return source

    @functools.cache
    def open_all():
        """The training images and those without a class, and how many the first are."""
        train = take("train")
        both = listing.join([train, take("unlabelled")])
        if train.labels is None:
            both = listing.Listing(both.directory, both.files, notes=both.notes)
        source = open_files(both, f"{name['train']} and images without a class")
        return source, int(source.is_kept[: len(train)].sum())

    def open_train():
        if not has_unlabelled:
            return open_files(take("train"), name["train"])
        source, num_train = open_all()
        return source.subset(np.arange(num_train), name["train"])

    def open_pretrain():
        return open_all()[0]

    def open_test():
        return open_files(take("test"), name["test"])

    pretrain = open_pretrain if has_unlabelled else open_train
    return Splits(open_train, open_test if has_test else None, pretrain, notes)
