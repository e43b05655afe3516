"""Where recipes lie, and which file the name of one stands for."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import pathlib
import re
from collections.abc import Iterator

from csml_tf import places
from csml_tf.errors import InputError

_PACKAGE = pathlib.Path(__file__).resolve().parent
# The wheel carries them inside the package; in a checkout they lie beside it.
FOLDER = _PACKAGE / "gin_configs"
if not FOLDER.is_dir():
    FOLDER = _PACKAGE.parent / "gin_configs"
_PARTS_FOLDER = "base"  # Holds what recipes include.

_INCLUDE = re.compile(r"""^([ \t]*include[ \t]+)(["'])(.+?)\2""", re.MULTILINE)
# Before a path: that it has been found already, so nobody looks for it again.
_FOUND = "recipe found at "
_being_read: list[pathlib.Path] = []


def list_recipes() -> list[str]:
    """Names of the recipes in `gin_configs/`, those in its folders with the folder's name."""
    names = (path.relative_to(FOLDER) for path in FOLDER.rglob("*.gin"))
    return sorted(name.as_posix() for name in names if name.parts[0] != _PARTS_FOLDER)


def find(name: str | os.PathLike) -> str:
    """The file that a name stands for: in the current folder, else in `gin_configs/`.

    Returns:
        A name for `open_found`.

    Raises:
        InputError: if there is none.
    """
    name = places.expand(name, "--gin_file")
    for path in [places.at(name)] if places.is_url(name) else (pathlib.Path(name), FOLDER / name):
        if path.is_file():
            return f"{_FOUND}{path}"
    raise InputError(
        f"There is no recipe {name} here or in gin_configs/: choose one of "
        f"{', '.join(list_recipes())}."
    )


def place_includes(text: str, including: pathlib.Path | None = None) -> str:
    """The text of a recipe, whose includes name the files that they stand for.

    Args:
        text: of the recipe, or of an override.
        including: file that the text is from. What it includes lies beside it, else in
            `gin_configs/`, else in the current folder; without a file, as for `find`.

    Raises:
        InputError: if a file is missing; names the one that includes it.
    """

    def place(match):
        start, _, name = match.groups()
        found = find(name) if including is None else _find_included(name, including)
        return f"{start}{found!r}"

    return _INCLUDE.sub(place, text)


def is_found(name: str) -> bool:
    """Whether a name is one that `find` returned."""
    return name.startswith(_FOUND)


@contextlib.contextmanager
def open_found(name: str) -> Iterator[io.StringIO]:
    """Opens what `find` returned, with its includes placed.

    Raises:
        InputError: if it cannot be read, or includes itself.
    """
    path = places.at(name[len(_FOUND) :])
    if path.resolve() in _being_read:
        raise InputError(f"{path} includes itself, on some way: take one include out.")
    try:
        text = path.read_text(encoding="utf-8-sig")  # Notepad begins with a mark.
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The recipe {path} cannot be read ({error}): mend the file.") from error
    file = io.StringIO(place_includes(text, path))
    file.name = str(path)  # For the messages of gin.
    _being_read.append(path.resolve())
    try:
        yield file
    finally:
        _being_read.pop()


@contextlib.contextmanager
def without_search_log() -> Iterator[None]:
    """Without the error that gin logs for every reader that does not know a name of ours."""
    root = logging.getLogger()
    handler = logging.NullHandler()  # Without any, gin's error would add one for good.
    root.addHandler(handler)
    disabled, root.disabled = root.disabled, True
    try:
        yield
    finally:
        root.disabled = disabled
        root.removeHandler(handler)


def _find_included(name, including):
    name = places.expand(name, "The recipe")
    beside = (including.parent / name, FOLDER / name, pathlib.Path(name))
    for path in [places.at(name)] if places.is_url(name) else beside:
        if path.is_file():
            return f"{_FOUND}{path}"
    raise InputError(
        f"{including} includes {name}, which lies neither beside it nor in gin_configs/ nor here: "
        "mend the name."
    )
