"""The splits of a `folder:DIR` data set: which of its sub-folders hold which images."""

import dataclasses
import functools
import itertools
import os
from typing import Optional

from csml_tf import amounts, places
from csml_tf.data.sources import folder_classes, folder_scan, listed_splits, listing, split_names
from csml_tf.data.sources.folder_scan import Scan
from csml_tf.data.sources.left_out import LeftOut
from csml_tf.errors import InputError

PREFIX = "folder:"
# The outermost folders are the classes, not the innermost.
_TOP = "top"


@dataclasses.dataclass
class _Parts:
    """Which images of a folder are for what.

    Attributes:
        train: (name, `Scan`).
        test: the same; None where there are no test images.
        unlabelled: `Scan` of images without a class; None where there are none.
        notes: list of str.
    """

    train: tuple
    test: Optional[tuple]
    unlabelled: Optional[Scan]
    notes: list


def open_splits(dataset, data_dir=None, download=False):
    """Finds the splits of one or several folders; no image is looked at before they are opened.

    Args:
        dataset: str, "folder:DIR" or "folder:DIR,folder:DIR"; `~` is the home folder. With
            "folder+top:DIR" the outermost folders are the classes, with "folder+no_exif:DIR"
            photographs are shown as they are stored. An option of one folder is one of all.
        data_dir: not used: the string says where the images lie.
        download: not used.

    Returns:
        `Splits`.

    Raises:
        InputError: if there is no such folder, an unknown option, or a folder inside another.
    """
    del data_dir, download
    strings = listed_splits.split_several(dataset, PREFIX[:-1])
    options, directories = set(), []
    for string in strings:
        path, own_options = listed_splits.parse(string, [_TOP, listed_splits.NO_EXIF])
        directories.append(folder_classes.check(places.find(path)))
        options |= own_options
    for inner, outer in itertools.permutations(directories, 2):
        if places.is_inside(inner, outer):
            raise InputError(
                f"The folder {inner} is {outer} or lies in it, so its images would count twice: "
                "name one of the two."
            )
    parts = [_choose(string) for string in strings]
    notes = [note for part in parts for note in part.notes]
    name = {"train": dataset, "test": dataset}
    if len(parts) == 1:
        name["train"] = parts[0].train[0]
        name["test"] = parts[0].test and parts[0].test[0]
    pending = [parts]

    def find():
        # Whoever opens a split again has the folders listed again.
        found = pending.pop() if pending else [_choose(string) for string in strings]
        return _list(found, _TOP in options)

    return listed_splits.make_splits(name, find, notes, listed_splits.NO_EXIF not in options)


def _list(parts, is_top):
    """{split: function that returns its `Listing`} of all folders together."""
    scans = [part.train[1] for part in parts]
    names = {name for scan in scans for name in folder_classes.class_names(scan, is_top)}
    class_names = sorted(names) or None
    has_classes = folder_classes.has_classes
    tests = [
        part.test for part in parts if part.test and has_classes(part.test[1]) == bool(class_names)
    ]

    @functools.cache
    def list_train():
        """(listings of the training images, listings of images without a class)."""
        train, unlabelled = [], []
        for part in parts:
            name, scan = part.train
            found, rest = folder_classes.classify(scan, None, name, is_top)
            (unlabelled if class_names and found.labels is None else train).append(found)
            if rest:
                unlabelled.append(listing.Listing(found.directory, rest))
            if part.unlabelled:
                unlabelled.append(folder_classes.list_unlabelled(name, part.unlabelled))
        return train, unlabelled

    def list_test():
        found = [folder_classes.classify(scan, class_names, name)[0] for name, scan in tests]
        return listing.join(found)

    found = {"train": lambda: listing.join(list_train()[0])}
    if tests:
        found["test"] = list_test
    # As `list_train` finds them: beside classes, beside splits, or in a folder without classes.
    has_unlabelled = [
        folder_classes.unlabelled_names(scan) if has_classes(scan) else class_names
        for scan in scans
    ]
    if any(has_unlabelled) or any(part.unlabelled for part in parts):
        found["unlabelled"] = lambda: listing.join(list_train()[1])
    return found


def _choose(dataset):
    """`_Parts` of one folder."""
    path, _ = listed_splits.parse(dataset, [_TOP, listed_splits.NO_EXIF])
    directory = places.find(path)
    scan = folder_scan.scan(directory, lambda name: split_names.find_role(name) is not None)
    base = dataset.rstrip("/")
    if not scan.loose and not scan.parts and len(scan.children) == 1:
        # An archive is often unpacked into a folder of its own: the splits may lie in it.
        (only,) = scan.children
        if any(map(split_names.find_role, folder_scan.names(os.path.join(directory, only)))):
            inside = _choose(f"{base}/{only}")
            if inside.test is not None:
                return inside
    has_classes = folder_classes.has_classes
    unlabelled = folder_classes.unlabelled_names(scan)
    others = [name for name in scan.children if name not in unlabelled]
    order = list(split_names.ROLES)
    names = sorted(scan.parts, key=lambda name: (order.index(name.strip().lower()), name))
    of_role = {role: [] for role in ("train", "test", "val")}
    for name in names:
        of_role[split_names.find_role(name)].append(name)
    rest = Scan(directory, scan.loose, scan.children, scan.left_out)

    def find_test(train):
        # ImageNet's test images lie in one flat folder, without labels: of no use here.
        tests = of_role["test"] + of_role["val"]
        fitting = [name for name in tests if has_classes(scan.parts[name]) == has_classes(train)]
        return fitting[0] if fitting else None

    train = None
    if of_role["train"]:
        train = of_role["train"][0]
    elif not others and not scan.loose and names:
        # Without one for training, the validation images are it, or the only ones there are.
        train = (of_role["val"] or of_role["test"])[0]
    if train is not None:
        test = find_test(scan.parts[train])
        # "train" beside "bicycle" and "bus" is a class; alone or beside splits it is a split.
        if test == train:
            test = None
        if not others or test is not None:
            return _of_split_folders(dataset, scan, train, test, unlabelled, others)
    elif names:
        test = find_test(rest)
        # Beside "bicycle" and "bus", "test" is a class unless it holds classes of these names.
        if test and (not others or set(scan.parts[test].children) <= set(others)):
            part = (f"{base}/{test}", scan.parts[test])
            unused = [name for name in names if name != test]
            note = _describe(dataset, scan, "what lies beside it", rest.num_images, test, unused)
            return _Parts((dataset, rest), part, None, [note])
    return _Parts((dataset, scan.with_parts_as_children()), None, None, [])


def _of_split_folders(dataset, scan, train, test, unlabelled, others):
    base = dataset.rstrip("/")
    unused = [name for name in [*scan.parts, *others] if name not in (train, test)]
    num_train = scan.parts[train].num_images
    notes = [_describe(dataset, scan, f"{train}/", num_train, test, unused)]
    left_out = LeftOut(scan.directory)
    left_out.merge(scan.left_out)
    for file in scan.loose:
        left_out.add("beside the split folders", file)
    notes += left_out.describe(dataset)
    rest = None
    if unlabelled:
        children = {name: scan.children[name] for name in unlabelled}
        rest = Scan(scan.directory, [], children, LeftOut(scan.directory))
    return _Parts(
        (f"{base}/{train}", scan.parts[train]),
        None if test is None else (f"{base}/{test}", scan.parts[test]),
        rest,
        notes,
    )


def _describe(dataset, scan, train, num_train, test, unused):
    """A line of which images are which split, and which are not used."""

    def count(name):
        part = scan.parts.get(name) or scan.children[name]
        return f"{name}/ ({amounts.count(part.num_images, 'image')})"

    line = f"{dataset}: {train} ({amounts.count(num_train, 'image')}) is for training"
    line += (
        ", and a part of it for evaluation" if test is None else f", {count(test)} for evaluation"
    )
    if unused:
        listed = ", ".join(map(count, unused))
        line += f"; not used: {listed}"
    return line + "."
