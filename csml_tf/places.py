"""Paths and URLs as people write them on a command line or in a notebook."""

from __future__ import annotations

import contextlib
import itertools
import os
import pathlib
import posixpath
import re
import shutil
from collections.abc import Sequence
from typing import Any

from csml_tf.errors import InputError

_FOLDER = "folder:"
_PATTERN_SIGNS = "*?[\\"
# One letter is a disk of Windows.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def is_url(path: str | os.PathLike) -> bool:
    """Whether a place is on an object store, or on what else has URLs.

    Example:
        >>> is_url("gs://bucket/runs"), is_url("runs"), is_url("folder:gs://bucket/photos")
        (True, False, False)
    """
    return _URL.match(os.fsdecode(path)) is not None


def at(*parts: str | os.PathLike) -> Any:
    """What opens a place: `pathlib.Path`, or `url_path.UrlPath`, which does the same for a URL.

    Raises:
        InputError: if TensorFlow knows no such kind of URL.
    """
    if not is_url(parts[0]):
        return pathlib.Path(*parts)
    from csml_tf import url_path  # Here, since it needs TensorFlow.

    return url_path.UrlPath(*parts)


def check_local(path: str | os.PathLike, what: str) -> None:
    """Raises `InputError` for a URL, where only files on a disk are of use.

    Args:
        path: as it was given.
        what: it is of, for the error: "--checkpoint".
    """
    if is_url(path):
        raise InputError(
            f"{what} {os.fspath(path)} is a URL, and this takes files on a disk only: copy it "
            "there, and give the copy."
        )


def expand(path: str | os.PathLike, what: str = "The path") -> str:
    """A path whose "~" stands for the home folder, also behind "folder:".

    A shell leaves the "~" of `--model_dir=~/runs` as it is.

    Args:
        path: as it was given.
        what: it is of, for the error: "--model_dir".

    Raises:
        InputError: if TensorFlow could not open it, because it is no UTF-8 or holds a zero byte.

    Example:
        >>> expand("runs/~/a"), expand("folder:runs/a")
        ('runs/~/a', 'folder:runs/a')
    """
    expanded = expand_home(path)
    try:
        expanded.encode()
    except UnicodeEncodeError:
        raise InputError(
            f"{what} {expanded.encode(errors='backslashreplace').decode()} is not in UTF-8, so "
            "TensorFlow cannot open it: rename it."
        ) from None
    if "\0" in expanded:
        raise InputError(f"{what} {expanded!r} holds a zero byte: check the path.")
    return expanded


def expand_home(path: str | os.PathLike) -> str:
    """As `expand`, of images: their names may be in any encoding, as the disk has them."""
    path = os.fsdecode(path)
    prefix = _FOLDER if path.startswith(_FOLDER) else ""
    return prefix + os.path.expanduser(path[len(prefix) :])


def find(path: str) -> str:
    """The place that images are read from: `~` is the home folder, a URL ends without a slash.

    A store takes "gs://bucket/a//b" and "gs://bucket/a/../b" for names of their own.
    """
    if not is_url(path):
        return os.path.expanduser(path)
    scheme, _, rest = path.partition("://")
    return f"{scheme}://{posixpath.normpath(rest)}"


def absolute(path: str) -> str:
    """A path from the root on, for a message; a URL as it is."""
    return path if is_url(path) else os.path.abspath(path)


def is_file(path: str) -> bool:
    """Whether there is a file, on a disk or at a URL."""
    return at(path).is_file() if is_url(path) else os.path.isfile(path)


def is_folder(path: str) -> bool:
    """Whether there is a folder, on a disk or at a URL."""
    return at(path).is_dir() if is_url(path) else os.path.isdir(path)


def exists(path: str) -> bool:
    """Whether there is anything, on a disk or at a URL."""
    return at(path).exists() if is_url(path) else os.path.exists(path)


def folder_of(path: str) -> str:
    """The folder that a file lies in, as an absolute path without links, or a URL."""
    if is_url(path):
        return path.rpartition("/")[0]
    return os.path.realpath(os.path.dirname(path))


def remove_folder(folder: Any) -> None:
    """Removes a folder, by its path or what `at` gives, and all in it; what stays is no error."""
    if not is_url(folder):
        shutil.rmtree(folder, ignore_errors=True)
        return
    with contextlib.suppress(OSError):
        at(folder).rmtree()


def common_folder(folders: Sequence[str]) -> str:
    """The nearest folder that holds all of some.

    Args:
        folders: absolute paths, or URLs as `find` gives them.

    Raises:
        InputError: if there is none.
    """
    if not any(map(is_url, folders)):
        return os.path.commonpath(folders)
    levels = zip(*(folder.split("/") for folder in folders))
    parts = [names[0] for names in itertools.takewhile(lambda names: len({*names}) == 1, levels)]
    if len(parts) < 3:
        raise InputError(
            f"{folders[0]} and {folders[-1]} lie in no bucket together, so they are no one data "
            "set: copy one to where the other is."
        )
    return "/".join(parts)


def check_no_pattern(path: str | os.PathLike, what: str) -> None:
    """Raises `InputError` for a place that TensorFlow would write to, and not find again.

    It takes a path with one of these signs for a pattern when it reads a checkpoint or a model.

    Args:
        path: of a folder, as it was given.
        what: it is of, for the error.
    """
    found = [sign for sign in _PATTERN_SIGNS if sign in os.fspath(path).replace(os.sep, "/")]
    if found:
        raise InputError(
            f"{what} {os.fspath(path)} has {' and '.join(found)} in its name, which TensorFlow "
            "takes for a pattern and so does not find it again: choose another, or rename it."
        )


def cache_home() -> pathlib.Path:
    """The folder of what may be made again: `CSML_TF_HOME`, or ~/.cache/csml_tf."""
    return pathlib.Path(expand_home(os.environ.get("CSML_TF_HOME") or "~/.cache/csml_tf"))


def is_inside(path: str | os.PathLike, folder: str | os.PathLike) -> bool:
    """Whether a path is a folder or lies somewhere below it, links followed."""
    if is_url(path) or is_url(folder):
        return f"{find(os.fspath(path))}/".startswith(f"{find(os.fspath(folder))}/")
    path, folder = pathlib.Path(path).resolve(), pathlib.Path(folder).resolve()
    return path == folder or folder in path.parents
