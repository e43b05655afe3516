"""Paths as people write them on a command line or in a notebook."""

import os
import pathlib
from typing import Union

from csml_tf.errors import InputError

_FOLDER = "folder:"
_PATTERN_SIGNS = "*?[\\"


def expand(path: Union[str, os.PathLike], what: str = "The path") -> str:
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


def expand_home(path: Union[str, os.PathLike]) -> str:
    """As `expand`, of images: their names may be in any encoding, as the disk has them."""
    path = os.fsdecode(path)
    prefix = _FOLDER if path.startswith(_FOLDER) else ""
    return prefix + os.path.expanduser(path[len(prefix) :])


def check_no_pattern(path: Union[str, os.PathLike], what: str) -> None:
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


def is_inside(path: Union[str, os.PathLike], folder: Union[str, os.PathLike]) -> bool:
    """Whether a path is a folder or lies somewhere below it, links followed."""
    path, folder = pathlib.Path(path).resolve(), pathlib.Path(folder).resolve()
    return path == folder or folder in path.parents
