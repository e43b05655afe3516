"""Folders at URLs, copied to this machine for libraries that read files on a disk only."""

from __future__ import annotations

import hashlib
import os
import pathlib

from absl import logging

from csml_tf import places, uploads, whole_files
from csml_tf.errors import InputError


def on_disk(folder: str | os.PathLike) -> pathlib.Path:
    """A folder itself, or of a URL a copy in the cache, as the folder is now.

    An earlier copy is taken again as long as the store says of each file the same name, size and
    time; where a store knows no times, the folder is copied every time.

    Args:
        folder: path or URL.

    Raises:
        InputError: if the cache cannot be written, or the store does not answer.
    """
    source = places.at(folder)
    if not places.is_url(source):
        return source
    stats = {name: (source / name).stat() for name in sorted(uploads.walk(source))}
    described = "\n".join(f"{name} {size} {time}" for name, (size, time) in stats.items())
    digest = hashlib.sha256(f"{source}\n{described}".encode()).hexdigest()[:16]
    # The folder's own name and the one above it name the model in messages and cards.
    place = places.cache_home() / "fetched" / digest
    copy = place.joinpath(*source.parts[1:][-2:])
    try:
        place.mkdir(parents=True, exist_ok=True)
        with whole_files.take_turns(place / "lock"):
            if copy.exists() and all(status.st_mtime_ns for status in stats.values()):
                return copy
            logging.info(
                "Copying %s, %.1f MB, to %s.",
                *(source, sum(status.st_size for status in stats.values()) / 1e6, copy),
            )
            with whole_files.new_folder(copy) as temporary:
                for name in stats:
                    (temporary / name).parent.mkdir(parents=True, exist_ok=True)
                    (source / name).download(temporary / name)
    except InputError:
        raise
    except OSError as error:
        raise InputError(
            f"{source} cannot be copied to {place} ({error.strerror or error}): free some space, "
            "or set CSML_TF_HOME to another folder."
        ) from error
    return copy
