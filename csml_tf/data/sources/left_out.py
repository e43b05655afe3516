"""What a folder holds and a data set does not use: counted by kind, and listed in a file."""

import hashlib
import os

from csml_tf import amounts, places, whole_files
from csml_tf.augment import image_kinds, image_size

_NAMES_SHOWN = 10
_FILES_LOOKED_AT = 10


class LeftOut:
    """Files and folders that are not used, with the reason of each.

    Args:
        directory: str, path of the folder that they lie in.
    """

    def __init__(self, directory):
        self._directory = directory
        self._paths = {}

    def add(self, reason, path):
        """Notes one.

        Args:
            reason: what the line counts them by, such as ".txt".
            path: str, below the directory; a folder's ends in a slash.
        """
        self._paths.setdefault(reason, []).append(path)

    def paths(self, reasons):
        """What is left out for some reasons, sorted."""
        return sorted(path for reason in reasons for path in self._paths.get(reason, ()))

    def merge(self, other, prefix=""):
        """Takes over what another one holds, of the same directory or one `prefix` below."""
        for reason, paths in other._paths.items():
            self._paths.setdefault(reason, []).extend(prefix + path for path in paths)

    def describe(self, name):
        """One line of how many there are of each kind, and where all are listed.

        Args:
            name: str, of the data set.

        Returns:
            List of one str; empty where nothing is left out.
        """
        if not self._paths:
            return []
        total = sum(map(len, self._paths.values()))
        kinds = sorted(self._paths.items(), key=lambda item: (-len(item[1]), item[0]))
        counts = ", ".join(f"{len(paths)} {reason}" for reason, paths in kinds)
        listed = "; ".join(shorten(sorted(paths)) for _, paths in kinds)
        if total > _NAMES_SHOWN:
            lines = [f"{reason}\t{path}" for reason, paths in kinds for path in sorted(paths)]
            listed = write_list(self._directory, "left_out", lines) or listed
        are_folders = {path.endswith("/") for paths in self._paths.values() for path in paths}
        noun = {(False,): "files", (True,): "folders"}.get((*are_folders,), "files and folders")
        noun = noun[:-1] if total == 1 else noun
        return [f"{name}: {total} {noun} left out: {counts} ({listed})."]


def write_list(directory, what, lines):
    """Writes a list that is too long for the log into the cache.

    Args:
        directory: str, path of the folder that it is about.
        what: str, the list's name.
        lines: list of str.

    Returns:
        "listed in FILE"; "" where the cache cannot be written.
    """
    digest = hashlib.sha256(os.fsencode(places.absolute(directory))).hexdigest()[:8]
    path = places.cache_home() / "lists" / f"{what}-{digest}.txt"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        whole_files.write(path, b"".join(os.fsencode(line) + b"\n" for line in lines))
    except OSError:
        return ""
    return f"listed in {path}"


def shorten_or_list(directory, what, names):
    """A list of names for a message: the first ten, and the file where all of them are."""
    if len(names) <= _NAMES_SHOWN:
        return shorten(names)
    listed = write_list(directory, what, names)
    return f"{shorten(names)}, {listed}" if listed else shorten(names)


def name_unreadable(directory, files):
    """Files that are no readable images, in words, with what would make them readable.

    Args:
        directory: str, path of the folder that they lie in.
        files: list of str, paths below it.
    """
    named = shorten_or_list(directory, "unreadable", files)
    for file in files[:_FILES_LOOKED_AT]:
        path = os.path.join(directory, file)
        missing = image_kinds.describe_missing(
            image_kinds.read_head(path, image_kinds.LONG_HEAD_BYTES)
        )
        if missing:
            return named + missing
    return named


def describe_giants(directory, files):
    """A line about images that are not used because they have too many pixels."""
    named = shorten_or_list(directory, "too_large", files)
    return (
        f"Left out {amounts.count(len(files), 'file')} in {directory}, of more than "
        f"{image_size.MAX_PIXELS // 10**6} million pixels each: {named}; {image_size.ADVICE}."
    )


def shorten(names):
    """A list of names for a message: the first ten, and how many there are beside."""
    shown = ", ".join(names[:_NAMES_SHOWN])
    return shown if len(names) <= _NAMES_SHOWN else f"{shown} and {len(names) - _NAMES_SHOWN} more"
