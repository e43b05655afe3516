"""What lies in the folders of an object store, many of which are listed at once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent import futures
from typing import Callable, NamedTuple

from absl import logging

from csml_tf import amounts, places
from csml_tf.augment import image_kinds

_NUM_THREADS = 64
_MARKS_FOLDERS = ("gs",)  # Whose listings have a slash behind the names of folders.


class Entry(NamedTuple):
    """One name of a listing; as `os.DirEntry`, but that a store has no links."""

    name: str
    is_folder: bool

    def is_dir(self) -> bool:
        return self.is_folder

    def is_file(self) -> bool:
        return not self.is_folder

    def is_symlink(self) -> bool:
        return False


class StoreListing:
    """All folders below a URL, listed at once by many threads, since a store answers late.

    No file is asked for by itself, where its name says that it is one: not one question for each
    of a million images, but one listing for each folder, or for each thousand of its files.

    Args:
        directory: URL of a folder.
        is_passed_over: function of a name: whether a folder of that name is not looked into.
        is_file_name: function of a name: whether what is called so is a file. Where the store
            does not tell, others are asked for one by one.

    Raises:
        url_path.StoreError: if the store refuses, or does not answer.
    """

    def __init__(
        self,
        directory: str,
        is_passed_over: Callable[[str], bool],
        is_file_name: Callable[[str], bool],
    ):
        self._is_file_name = is_file_name
        self._entries: dict[str, list[Entry]] = {}
        logging.info("Listing %s.", directory)
        with futures.ThreadPoolExecutor(_NUM_THREADS) as pool:
            waiting = {pool.submit(self._list, directory): directory}
            while waiting:
                done, _ = futures.wait(waiting, return_when=futures.FIRST_COMPLETED)
                for future in done:
                    folder = waiting.pop(future)
                    self._entries[folder] = future.result()
                    below = [
                        f"{folder}/{entry.name}"
                        for entry in self._entries[folder]
                        if entry.is_folder and not is_passed_over(entry.name)
                    ]
                    waiting.update({pool.submit(self._list, path): path for path in below})
        num_files = sum(
            not entry.is_folder for entries in self._entries.values() for entry in entries
        )
        logging.info(
            "Listed %s in %s.",
            *(amounts.count(num_files, "file"), amounts.count(len(self._entries), "folder")),
        )

    @contextlib.contextmanager
    def scandir(self, path: str) -> Iterator[list[Entry]]:
        """As `os.scandir`, of a folder below the URL; each is given once, and then forgotten."""
        yield self._entries.pop(path.rstrip("/"))

    def _list(self, folder):
        url = places.at(folder)
        tells = folder.partition("://")[0] in _MARKS_FOLDERS
        entries = []
        for name in url.names():
            plain = name.rstrip("/")
            is_folder = name.endswith("/")
            if not (is_folder or tells or self._is_file_name(plain)):
                is_folder = (url / plain).is_dir()
            if plain:
                entries.append(Entry(plain, is_folder))
        return entries


def read_heads(paths: list[str]) -> list[bytes]:
    """`image_kinds.read_head` of each file; where these are URLs, of many at once."""
    if not paths or not places.is_url(paths[0]):
        return [image_kinds.read_head(path) for path in paths]
    with futures.ThreadPoolExecutor(_NUM_THREADS) as pool:
        return list(pool.map(image_kinds.read_head, paths))
