"""Files and folders that are there whole or not at all; their checksums; locks on them."""

import contextlib
import errno
import hashlib
import os
import pathlib
import shutil
import socket
import stat
from collections.abc import Iterator
from typing import IO, Optional, Union

from absl import logging

from csml_tf import places
from csml_tf.errors import InputError

try:
    import fcntl
except ImportError:  # Not on Windows.
    fcntl = None

Path = Union[str, os.PathLike]

_BLOCK_BYTES = 2**20


@contextlib.contextmanager
def new_file(path: Path, advice: Optional[str] = None) -> Iterator[pathlib.Path]:
    """Writes a file beside its place, and puts it there when the block has ended well.

    A link is written through, and an older file's permissions are kept. One for a URL is written
    on this machine, and uploaded.

    Args:
        path: where to; an older file stays until then, and for good if the block fails.
        advice: what the user can do where the file cannot be written, "choose another
            --output"; None lets the `OSError` pass.

    Yields:
        The path to write to.

    Raises:
        InputError: if there is advice and the file cannot be written.
    """
    if places.is_url(path):
        from csml_tf import uploads  # Here, since it needs TensorFlow; so below.

        with uploads.new_file(path, advice) as temporary:
            yield temporary
        return
    path = _target(path)
    temporary = path.with_name(path.name + ".tmp")
    try:
        _check_is(stat.S_ISREG, path, "is no ordinary file")
        try:
            yield temporary
            _keep_mode(path, temporary)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        if advice is None:
            raise
        raise InputError(
            f"{path} cannot be written ({error.strerror or error}): {advice}."
        ) from error


def write(path: Path, content: Union[str, bytes], advice: Optional[str] = None) -> None:
    """Writes text, or bytes: a reader sees the old file or the new one, never a part.

    Args and errors are those of `new_file`. Names of files that are no UTF-8 are written as the
    bytes that they are on the disk.
    """
    if isinstance(content, str):
        content = content.encode(errors="surrogateescape")
    with new_file(path, advice) as temporary:
        temporary.write_bytes(content)


@contextlib.contextmanager
def new_folder(directory: Path, advice: Optional[str] = None) -> Iterator[pathlib.Path]:
    """Writes a folder beside its place, and puts it there when the block has ended well.

    A link is written through, and an older folder's permissions are kept. The current folder and
    a place where a disk is mounted cannot be replaced. One for a URL is written on this machine,
    and uploaded.

    Args:
        directory: where to; what is there is replaced once the new one is complete, and
            stays if the block fails. Its parents are made when missing.
        advice: what the user can do where no folder can be made; None lets the `OSError` pass.

    Yields:
        Path of an empty folder to write into.

    Raises:
        InputError: if there is advice and no folder can be made there.
    """
    if places.is_url(directory):
        from csml_tf import uploads

        with uploads.new_folder(directory, advice) as temporary:
            yield temporary
        return
    directory = _target(directory)
    temporary = directory.with_name(directory.name + ".tmp")
    older = directory.with_name(directory.name + ".old")
    try:
        _check_is(stat.S_ISDIR, directory, "is no folder")
        if os.path.ismount(directory):
            raise OSError(errno.EBUSY, "a disk is mounted there")
        if directory in (pathlib.Path.cwd(), *pathlib.Path.cwd().parents):
            raise OSError(errno.EBUSY, "it holds the current folder")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
    except OSError as error:
        if advice is None:
            raise
        raise InputError(
            f"The folder {directory} cannot be made ({error.strerror or error}): {advice}."
        ) from error
    try:
        yield temporary
        _keep_mode(directory, temporary)
        # A folder cannot be renamed over another one: here it is missing, complete.
        shutil.rmtree(older, ignore_errors=True)
        if directory.exists():
            directory.rename(older)
        try:
            temporary.rename(directory)
        except BaseException:
            if older.exists():
                older.rename(directory)
            raise
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    shutil.rmtree(older, ignore_errors=True)


def _target(path):
    """Where a path leads: a link stays, and what it points at is replaced."""
    return pathlib.Path(os.path.realpath(path))


def _check_is(is_kind, path, fault):
    if path.exists() and not is_kind(path.stat().st_mode):
        raise OSError(errno.EINVAL, f"it {fault}", str(path))


def _keep_mode(old, new):
    """Gives a new file or folder the permissions of the one that it replaces."""
    if old.exists() and new.exists():
        shutil.copymode(old, new)


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file."""
    state = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK_BYTES):
            state.update(block)
    return state.hexdigest()


@contextlib.contextmanager
def hold(directory: Path, flag: str = "--model_dir") -> Iterator[Optional[IO[str]]]:
    """Keeps other processes out of a folder that has one writer while the block runs.

    The lock is the kernel's, on the file `lock`, so it ends with its process however that
    ends; the file only says who holds it. Where the file system knows no locks, a warning
    says so and the block runs without. At a URL it is a lease, see `leases`.

    Args:
        directory: path of a run directory, or of another such folder.
        flag: of the tool, that chooses another directory.

    Yields:
        The locked file, None where there are none and at a URL. A child process that inherits it
        holds the lock, too.

    Raises:
        InputError: if another process holds the lock; names it and its machine.
    """
    if places.is_url(directory):
        from csml_tf import leases

        with leases.hold(directory, flag):
            yield None
        return
    path = pathlib.Path(directory, "lock")
    file = _lock(path, flag)
    if file is None:
        yield None
        return
    with file:
        sign(file, os.getpid())
        try:
            yield file
        finally:
            path.unlink(missing_ok=True)  # While it is locked: see `_lock`.


def sign(file: IO[str], *pids: int) -> None:
    """Writes into a locked file who holds it.

    Args:
        file: what `hold` yields.
        *pids: numbers of the processes.
    """
    file.seek(0)
    file.truncate()
    file.write(f"process {' or '.join(map(str, pids))} on {socket.gethostname()}")
    file.flush()


@contextlib.contextmanager
def take_turns(path: Path) -> Iterator[None]:
    """Waits for other processes that hold a lock; where there are no locks, for nobody.

    Args:
        path: of the file that they lock; made when missing, and left.
    """
    with open(path, "a") as file:
        with contextlib.suppress(OSError):  # No locks here.
            _flock(file, wait=True)
        yield


def _lock(path, flag):
    """The open and locked file; None where there are no locks."""
    while True:
        file = path.open("a+")
        try:
            _flock(file, wait=False)
        except BlockingIOError as error:
            with file:
                file.seek(0)
                holder = file.read() or "another process"
            raise InputError(
                f"{path.parent} is in use by {holder}: wait for its end or stop it, or choose "
                f"another {flag}."
            ) from error
        except OSError as error:
            file.close()
            path.unlink(missing_ok=True)
            logging.warning(
                "%s cannot be locked (%s): see that no second process writes there.",
                path.parent,
                error.strerror or error,
            )
            return None
        # Who held the lock before may have removed the file after it was opened here.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()


def _flock(file, wait):
    if fcntl is None:
        raise OSError("this system has none")
    fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
