"""Files and folders that are made on this machine, and uploaded when they are whole."""

from __future__ import annotations

import contextlib
import os
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Union

from csml_tf import places
from csml_tf.errors import InputError

Path = Union[str, os.PathLike]

# By which others know a folder for a whole one, so they go first and come last.
_MARKS = ("csml_tf.json", "saved_model.pb")


@contextlib.contextmanager
def new_file(path: Path, advice: str | None = None) -> Iterator[pathlib.Path]:
    """`whole_files.new_file` of a URL."""
    url = places.at(path)
    with _local_folder() as folder:
        temporary = folder / url.name
        yield temporary
        with _advised(url, advice):
            url.upload(temporary)


@contextlib.contextmanager
def new_folder(directory: Path, advice: str | None = None) -> Iterator[pathlib.Path]:
    """`whole_files.new_folder` of a URL.

    A store cannot put one folder in another's place at once. While a folder is replaced it lacks
    the files that mark it as whole, and who reads it then finds none.
    """
    url = places.at(directory)
    with _local_folder() as folder:
        temporary = folder / url.name
        temporary.mkdir()
        with _advised(url, advice):  # Before any work is done for nothing.
            if url.is_file():
                raise OSError("it is no folder")
            url.mkdir(exist_ok=True)
        yield temporary
        with _advised(url, advice):
            _replace(url, temporary)


def _replace(url, folder):
    for mark in _MARKS:
        (url / mark).unlink(missing_ok=True)
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    for file in sorted(files, key=lambda file: file.name in _MARKS):
        (url / file.relative_to(folder).as_posix()).upload(file)
    _remove_others(url, folder)


def _remove_others(url, folder):
    """Removes what a local folder does not have."""
    for path in list(url.iterdir()):
        own = folder / path.name
        if not own.exists():
            places.remove_folder(path) if path.is_dir() else path.unlink(missing_ok=True)
        elif path.is_dir():
            _remove_others(path, own)


def walk(url, prefix: str = "") -> Iterator[str]:
    """Paths of all files below a folder at a URL, from the folder on.

    Args:
        url: `UrlPath` of the folder.
        prefix: of the paths; it names the sub-folder to walk through, with a slash at its end.
    """
    for path in (url / prefix).iterdir():
        if path.is_dir():
            yield from walk(url, f"{prefix}{path.name}/")
        else:
            yield prefix + path.name


@contextlib.contextmanager
def _local_folder():
    with tempfile.TemporaryDirectory(prefix="csml_tf_upload_") as folder:
        yield pathlib.Path(folder)


@contextlib.contextmanager
def _advised(url, advice):
    try:
        yield
    except OSError as error:
        if advice is None:
            raise
        raise InputError(
            f"{url} cannot be written ({error.strerror or error}): {advice}."
        ) from error
