"""The splits of a `csv:FILE` data set: image files named in a table, or one a line."""

import collections
import csv
import functools
import io
import os

import numpy as np

from csml_tf import amounts, places
from csml_tf.data.sources import listed_splits, split_names
from csml_tf.data.sources.left_out import shorten
from csml_tf.data.sources.listing import Listing
from csml_tf.errors import InputError

PREFIX = "csv:"
# What a first line calls its columns, in any case.
_PATHS = ("path", "file", "filename", "file_name", "filepath", "image", "image_path", "image_name")
_LABELS = ("label", "class", "class_name", "category", "target")
_SPLITS = ("split", "set", "subset")
_ROWS_TRIED = 10
_SEPARATORS = (",", ";", "\t", "\x1f")  # The last of them for lines that are a path each.


def open_splits(dataset, data_dir=None, download=False):
    """Finds the splits of a table of files; no image is looked at before they are opened.

    Each row has the path of an image, from the folder of the table, and perhaps its class; where
    others have one, an image without is for pretraining only. A first line such as
    "path,label,split" names the columns; without it they are path and label. Rows whose split
    is "test" are the test images, or those of "val" where there are none.

    Args:
        dataset: str, "csv:FILE", or "csv+no_exif:FILE" for photographs as they are stored.
        data_dir: not used: the string says where the table lies.
        download: not used.

    Returns:
        `Splits`.

    Raises:
        InputError: if there is no such table, or it names no files.
    """
    del data_dir, download
    path, options = listed_splits.parse(dataset, [listed_splits.NO_EXIF])
    path = places.find(path)
    rows, directory, notes = _read(path)
    by_role, unused = {"train": [], "test": [], "val": []}, {}
    for file, label, split in rows:
        role = split_names.find_role(split) if split else "train"
        if role is None:
            unused[split] = unused.get(split, 0) + 1
        else:
            by_role[role].append((file, label))
    if any(label for _, label in by_role["train"]):
        for role in ("test", "val"):
            labelled = [row for row in by_role[role] if row[1]]
            if len(labelled) < len(by_role[role]):
                unused[f"{role} without a class"] = len(by_role[role]) - len(labelled)
            by_role[role] = labelled
    test = "test" if by_role["test"] else "val"
    if not by_role["train"]:
        raise InputError(f"{path} has no row for training: write `train` in its column `split`.")
    if test == "test" and by_role["val"]:
        unused["val"] = len(by_role["val"])
    if any(split for _, _, split in rows):
        num_train = len(by_role["train"])
        line = f"{dataset}: {amounts.count(num_train, 'row')} {amounts.are(num_train)} for training"
        if by_role[test]:
            line += f", {len(by_role[test])} ({test}) for evaluation"
        if unused:
            line += "; not used: " + ", ".join(f"{n} of {name}" for name, n in unused.items())
        notes = [*notes, line + "."]

    def find():
        return _list(dataset, path, directory, by_role["train"], by_role[test])

    names = {"train": dataset, "test": f"{dataset}:{test}"}
    return listed_splits.make_splits(
        names, find, notes, obeys_exif=listed_splits.NO_EXIF not in options
    )


def _list(dataset, path, directory, train, test):
    """{split: function that returns its `Listing`}."""
    class_names = sorted({label for _, label in train} - {""}, key=_numbers_first)
    number = {name: i for i, name in enumerate(class_names)}

    def make(rows, note):
        files = [file for file, _ in rows]
        if not class_names:
            return Listing(
                directory, files, notes=[f"{dataset}: {amounts.count(len(files), 'image')} {note}."]
            )
        labels = np.array([number.get(label, -1) for _, label in rows], np.int64)
        notes = [f"{dataset}: {amounts.count(len(files), 'image')} in {note}."] if note else []
        return Listing(directory, files, labels, class_names, notes)

    def list_test():
        unknown = sorted({label for _, label in test} - set(class_names))
        if class_names and unknown:
            raise InputError(
                f"{amounts.count(len(unknown), 'class')} of the test rows of {path} "
                f"{amounts.are(len(unknown))} not among those for "
                f"training: {shorten([name or '(none)' for name in unknown])}; correct the rows."
            )
        return make(test, "for evaluation" if not class_names else "")

    labelled = [row for row in train if row[1]] if class_names else train
    rule = (
        f"{amounts.count(len(class_names), 'class')}: {shorten(class_names)}"
        if class_names
        else "without classes"
    )
    found = {"train": functools.partial(make, labelled, rule)}
    if test:
        found["test"] = list_test
    if len(labelled) < len(train):
        rest = [file for file, label in train if not label]
        line = (
            f"{dataset}: {amounts.count(len(rest), 'image')} without a class, for pretraining only."
        )
        found["unlabelled"] = lambda: Listing(directory, rest, notes=[line])
    return found


def _read(path):
    """-> ([(path from a folder, label, split), ..], that folder, lines about the table)."""
    try:
        lines = _read_lines(path)
        if any("\0" in line for line in lines):
            raise csv.Error("it holds zero bytes")
        first_line = next(filter(str.strip, lines), "")
        directory = places.folder_of(path)
        reader = csv.reader(lines, delimiter=_find_separator(first_line, directory))
        table = [row for row in reader if any(map(str.strip, row))]
    except InputError:
        raise
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"{path} cannot be read as a table ({error}): check the path after `csv:`; it needs "
            "UTF-8 text with a path and a class in each row."
        ) from error
    first = [cell.strip().lower() for cell in table[0]] if table else []
    columns, notes = {"path": 0, "label": 1}, []
    has_names = any(cell in _PATHS for cell in first)
    if has_names:
        groups = {"path": _PATHS, "label": _LABELS, "split": _SPLITS}
        columns = {
            key: next(i for i, cell in enumerate(first) if cell in names)
            for key, names in groups.items()
            if any(cell in names for cell in first)
        }
        unused = [cell for i, cell in enumerate(first) if i not in columns.values()]
        if unused:
            listed = shorten([cell or "(without a name)" for cell in unused])
            notes = [f"csv:{path}: columns that are not used: {listed}."]
        table = table[1:]
    elif first and max(map(len, table)) > 2:
        raise InputError(
            f"{path} has {max(map(len, table))} columns and no first line that names them: write "
            "`path,label,split` or the like above them."
        )
    if not table:
        raise InputError(f"{path} names no image: it needs a path and a class in each row.")

    def cell(row, key):
        column = columns.get(key)
        return row[column].strip() if column is not None and column < len(row) else ""

    urls = [places.find(cell(row, "path")) for row in table if places.is_url(cell(row, "path"))]
    if len(urls) == len(table):
        directory = places.common_folder([places.folder_of(url) for url in urls])
    elif urls and not places.is_url(path):
        raise InputError(
            f"{path} names files on a disk and at URLs ({urls[0]}), which are no one data set: "
            "write a table for each."
        )
    rows = {
        (_below(directory, cell(row, "path")), cell(row, "label"), cell(row, "split")): None
        for row in table
    }
    num_repeated = len(table) - len(rows)
    if num_repeated:
        repeated = f"{amounts.count(num_repeated, 'repeated row')} {amounts.are(num_repeated)}"
        notes.append(f"csv:{path}: {repeated} left out.")
    num_rows = collections.Counter(file for file, _, _ in rows)
    several = [file for file, count in num_rows.items() if count > 1]
    if several:
        notes.append(
            f"csv:{path}: {amounts.count(len(several), 'image')} in several rows, with other "
            f"classes or splits: {shorten(several)}."
        )
    tried = [file for file, _, _ in list(rows)[:_ROWS_TRIED]]
    are_there = [places.exists(os.path.join(directory, file)) for file in tried]
    if not any(are_there):
        raise InputError(
            f"There is no file {tried[0]} in {directory}, which {path} names: write paths from the "
            "folder of the table, or whole ones."
        )
    if not has_names and not are_there[0]:
        raise InputError(
            f"The first line of {path} names no file in {directory} ({tried[0]}): if it names the "
            "columns, call that of the paths `path`, else correct it."
        )
    return list(rows), directory, notes


def _read_lines(path):
    if places.is_url(path):
        return io.StringIO(places.at(path).read_text("utf-8-sig")).readlines()
    with open(path, encoding="utf-8-sig", newline="") as file:
        return file.readlines()


def _find_separator(line, directory):
    """What stands between the columns; names of files may hold some of it, too."""
    for separator in _SEPARATORS:
        cells = [cell.strip() for cell in next(csv.reader([line], delimiter=separator), [])]
        has_names = any(cell.lower() in _PATHS for cell in cells)
        if has_names or (cells and places.is_file(os.path.join(directory, cells[0]))):
            return separator
    return next((separator for separator in _SEPARATORS if separator in line), ",")


def _below(directory, path):
    """A path as the table has it, from `directory` on."""
    if places.is_url(directory):
        url = places.find(path if places.is_url(path) else f"{directory}/{path}")
        if path.startswith("/") or not url.startswith(f"{directory}/"):
            raise InputError(
                f"{path} does not lie below {directory}, the folder of the table that names it: "
                "put the table above its images, or write whole URLs in all its rows."
            )
        return url.removeprefix(f"{directory}/")
    path = os.path.expanduser(path)
    if "\\" in path and not os.path.exists(os.path.join(directory, path)):
        path = path.replace("\\", "/")  # Of Windows.
    path = os.path.relpath(path, directory) if os.path.isabs(path) else path
    path = path.replace(os.sep, "/")
    # One name for one file; what ".." leads to is the system's to say.
    return "/".join(part for part in path.split("/") if part not in ("", "."))


def _numbers_first(name):
    """Sorts "2" before "10", and both before words."""
    return (0, int(name), name) if name.isdecimal() else (1, 0, name)
