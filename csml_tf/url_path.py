"""Files and folders of an object store, gs://bucket/runs, in the words of `pathlib.Path`."""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import functools
import io
import os
import pathlib
from collections.abc import Iterator
from typing import NamedTuple

import tensorflow as tf

from csml_tf.errors import InputError, first_line

# Of objects: folders are parts of their names, and one is there when all of it has come. Elsewhere
# folders are made, and a file grows, and is renamed when whole.
_STORES = ("gs", "s3", "az", "oss")
_BUFFER_BYTES = 2**20
_EXTRA_SCHEMES = ("s3", "az", "hdfs", "http", "https", "oss", "dfs")  # Of tensorflow-io.


class StoreError(InputError, OSError):
    """A store that refuses or does not answer; an `OSError` as well, like one of a disk."""

    def __init__(self, url: str, reason: str):
        super().__init__(
            f"{url} cannot be used ({reason}): check the name of the bucket, your credentials "
            "and the network."
        )
        self.strerror = reason

    def __str__(self) -> str:
        return self.args[0]


class Status(NamedTuple):
    """What a store says of a file: bytes, and nanoseconds since 1970, 0 where it does not say."""

    st_size: int
    st_mtime_ns: int


class UrlPath(pathlib.PurePosixPath):
    """A path on any file system that `tf.io.gfile` opens, by its URL.

    What `pathlib.Path` has too does the same, and raises the same errors; what else a store says
    is a `StoreError`. There are no links and no permissions, and a folder is there as long as
    anything is in it.

    Args:
        *parts: "gs://bucket", "runs", "r50".

    Raises:
        InputError: if TensorFlow knows no such kind of URL, or it is no UTF-8.

    Example:
        >>> path = UrlPath("ram://bucket/runs/", "r50")
        >>> str(path), path.name, str(path.parent)
        ('ram://bucket/runs/r50', 'r50', 'ram://bucket/runs')
    """

    def __new__(cls, *parts):
        scheme, mark, _ = os.fspath(parts[0]).partition("://")
        if mark:  # Else it is a part of one that was checked, as Python makes of paths.
            _check_scheme(scheme)
        for part in parts:
            _check_text(os.fspath(part))
        return super().__new__(cls, *parts)

    def __str__(self) -> str:
        return super().__str__().replace(":/", "://", 1)

    def __fspath__(self) -> str:
        return str(self)

    @property
    def parents(self):
        """The folders above, the bucket last."""
        above, path = [], self
        while len(path.parts) > 2:
            path = path.parent
            above.append(path)
        return tuple(above)

    def resolve(self, strict: bool = False) -> UrlPath:
        """The path itself: there are no links."""
        del strict
        return self

    def stat(self) -> Status:
        """Of a file."""
        with _as_os_errors(self):
            found = tf.io.gfile.stat(str(self))
        return Status(found.length, found.mtime_nsec)

    @property
    def _has_folders(self):
        return self.parts[0].rstrip(":") not in _STORES

    @property
    def _asked_for(self):
        """S3 knows its buckets with a slash behind them only."""
        return str(self) if self.parents else f"{self}/"

    def exists(self) -> bool:
        """Whether there is a file or a folder."""
        return self._is_folder() is not None

    def is_file(self) -> bool:
        """Whether there is a file."""
        return self._is_folder() is False

    def is_dir(self) -> bool:
        """Whether there is a folder."""
        return self._is_folder() is True

    def _is_folder(self) -> bool | None:
        """By one question to the store; None where nothing is there."""
        try:
            with _as_os_errors(self):
                return tf.io.gfile.stat(self._asked_for).is_directory
        except FileNotFoundError:
            return None

    def names(self) -> list[str]:
        """What is in this folder, by one listing; with some stores a folder ends in a slash."""
        with _as_os_errors(self):
            return tf.io.gfile.listdir(self._asked_for)

    def iterdir(self) -> Iterator[UrlPath]:
        """What is in this folder."""
        for name in self.names():
            yield self / name

    def glob(self, pattern: str) -> Iterator[UrlPath]:
        """What is in this folder and has a name of a pattern; nothing where it is missing."""
        with contextlib.suppress(FileNotFoundError):
            yield from (path for path in self.iterdir() if fnmatch.fnmatch(path.name, pattern))

    def mkdir(self, parents: bool = False, exist_ok: bool = False) -> None:
        """Makes the folder; where folders are parts of names, there is nothing to be made."""
        del parents
        if not exist_ok and self.exists():
            raise FileExistsError(errno.EEXIST, "it exists", str(self))
        if self.is_file():
            raise FileExistsError(errno.EEXIST, "it is a file", str(self))
        if self._has_folders:
            with _as_os_errors(self):
                tf.io.gfile.makedirs(str(self))

    def rmdir(self) -> None:
        """Removes the folder, which has to be empty."""
        if self.names():
            raise OSError(errno.ENOTEMPTY, "it is not empty", str(self))
        self.rmtree()

    def rmtree(self) -> None:
        """Removes the folder and all that is in it."""
        with _as_os_errors(self):
            tf.io.gfile.rmtree(str(self))

    def unlink(self, missing_ok: bool = False) -> None:
        """Removes the file."""
        try:
            with _as_os_errors(self):
                tf.io.gfile.remove(str(self))
        except FileNotFoundError:
            if not missing_ok:
                raise

    def read_bytes(self, start: int = 0, num_bytes: int = -1) -> bytes:
        """The file, or `num_bytes` of it from `start` on; only these are fetched."""
        with _as_os_errors(self), tf.io.gfile.GFile(str(self), "rb") as file:
            file.seek(start)
            return file.read(num_bytes)

    def read_ends(self, num_first: int, num_last: int) -> tuple[int, bytes, bytes]:
        """(size of the file in bytes, its first bytes, its last ones); no others are fetched."""
        with _as_os_errors(self), tf.io.gfile.GFile(str(self), "rb") as file:
            size = file.size()
            first = file.read(num_first)
            file.seek(max(0, size - num_last))
            return size, first, file.read(num_last)

    def read_text(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """The file as text, whose lines end as Python has it."""
        return io.TextIOWrapper(io.BytesIO(self.read_bytes()), encoding, errors).read()

    def open(self, mode: str = "rb") -> io.BufferedReader:
        """The file, to be read as bytes, of which about those asked for are fetched."""
        if mode != "rb":
            raise ValueError(f"{self} is opened to be read as bytes, not with {mode!r}.")
        return io.BufferedReader(_RangedFile(self), _BUFFER_BYTES)

    def upload(self, local: str | os.PathLike) -> None:
        """Puts a local file here; others see the old file or the new one, never a part."""
        try:
            with _as_os_errors(self):
                self._put(os.fspath(local))
        except FileNotFoundError as error:
            if os.path.exists(local):
                raise StoreError(str(self), "there is no such bucket") from error
            raise

    def _put(self, local):
        if not self._has_folders:
            tf.io.gfile.copy(local, str(self), overwrite=True)
            return
        tf.io.gfile.makedirs(str(self.parent))
        temporary = self.with_name(self.name + ".tmp")
        temporary.unlink(missing_ok=True)
        tf.io.gfile.copy(local, str(temporary))
        tf.io.gfile.rename(str(temporary), str(self), overwrite=True)

    def download(self, local: str | os.PathLike) -> None:
        """Copies the file to a local one."""
        with _as_os_errors(self):
            tf.io.gfile.copy(str(self), os.fspath(local), overwrite=True)


class _RangedFile(io.RawIOBase):
    """A file at a URL, read range by range, with the errors of a disk."""

    def __init__(self, path):
        super().__init__()
        self._path = path
        self._size = path.stat().st_size
        self._place = 0

    def readable(self):
        return True

    def seekable(self):
        return True

    def seek(self, offset, whence=io.SEEK_SET):
        self._place = offset + {io.SEEK_CUR: self._place, io.SEEK_END: self._size}.get(whence, 0)
        return self._place

    def tell(self):
        return self._place

    def readinto(self, buffer):
        if self._place >= self._size:
            return 0
        content = self._path.read_bytes(self._place, len(buffer))
        buffer[: len(content)] = content
        self._place += len(content)
        return len(content)


@functools.lru_cache
def _check_scheme(scheme):
    known = {*tf.io.gfile.get_registered_schemes()} - {"", "file"}
    if scheme in known:
        return
    if scheme == "file":
        raise InputError(f"{scheme}:// is not needed: give the path that stands behind it.")
    listed = ", ".join(f"{name}://" for name in sorted(known - {"ram"}))  # Which is of no use.
    if scheme not in _EXTRA_SCHEMES:
        raise InputError(f"TensorFlow opens no {scheme}:// URLs: give a path, or one of {listed}.")
    try:
        import tensorflow_io  # noqa: F401  # It brings the scheme along.
    except Exception as error:  # What does not fit TensorFlow raises all sorts of errors.
        raise InputError(
            f"TensorFlow opens {scheme}:// URLs only with the package tensorflow-io, in the "
            f"version for TensorFlow {tf.__version__} ({first_line(error)}): `pip install "
            f"'csml_tf[stores]'`, or give a path, or one of {listed}."
        ) from error
    if scheme not in tf.io.gfile.get_registered_schemes():
        raise InputError(f"tensorflow-io brings no {scheme}:// URLs: give a path or {listed}.")


def _check_text(part):
    try:
        part.encode()
    except UnicodeEncodeError:
        shown = part.encode(errors="backslashreplace").decode()
        raise InputError(f"{shown} is not in UTF-8, as the names on a store are.") from None


@contextlib.contextmanager
def _as_os_errors(path):
    try:
        yield
    except tf.errors.NotFoundError as error:
        raise FileNotFoundError(
            errno.ENOENT, "there is no such file, folder or bucket", str(path)
        ) from error
    except tf.errors.OpError as error:
        full = os.strerror(errno.ENOSPC)  # Of this machine, where a file is copied from a store.
        if full in error.message:
            raise OSError(errno.ENOSPC, full, str(path)) from error
        # Of several lines of a server's answer, the first says what is wrong.
        raise StoreError(str(path), first_line(error)) from error
