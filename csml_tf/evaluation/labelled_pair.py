"""The two sets of a protocol that needs labels, and what can be wrong with them."""

import numpy as np

from csml_tf import amounts, features
from csml_tf.errors import InputError


def check(train_source, test_source):
    """Checks that classes can be learnt on one source and told on the other.

    Args:
        train_source: `ImageSource`.
        test_source: `ImageSource`.

    Returns:
        Number of classes, 1 more than the largest label.

    Raises:
        InputError: if labels are missing, there is one class only, or the test images
            have a class that no training image has.
    """
    for source in (train_source, test_source):
        if source.labels is None or (source.labels < 0).any():
            missing = "has none" if source.labels is None else "lacks some"
            raise needs_labels(source, missing)
    classes = np.unique(train_source.labels)
    if len(classes) < 2:
        raise InputError(
            f"{train_source.name} has one class only, so there is nothing to tell apart: give "
            "images of at least two."
        )
    unknown = np.setdiff1d(test_source.labels, classes)
    if len(unknown):
        names = test_source.class_names or train_source.class_names
        is_named = names and unknown[0] < len(names)
        name = repr(names[unknown[0]]) if is_named else f"number {unknown[0]}"
        raise InputError(
            f"{test_source.name} has {amounts.count(len(unknown), 'class')} that "
            f"{train_source.name} lacks, the first is {name}: remove their images, or "
            "add some for training."
        )
    return int(classes[-1]) + 1


def needs_labels(source, missing: str = "has none") -> InputError:
    """The error of a source whose labels are `missing`."""
    return InputError(
        f"This protocol needs labels, and {source.name} {missing}: give a data set with labels, "
        "such as a folder with one sub-folder per class."
    )


def extract(encode, train_source, test_source, view):
    """`features.extract_features` of both sources: (of train_source, of test_source)."""
    return tuple(
        features.extract_features(encode, source, view, description=f"features of {source.name}")
        for source in (train_source, test_source)
    )
