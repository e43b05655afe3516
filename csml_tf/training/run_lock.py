"""One process at a time in a run directory."""

import contextlib
import os
import pathlib
import socket

from absl import logging

from csml_tf.errors import InputError

try:
    import fcntl
except ImportError:  # Not on Windows.
    fcntl = None


@contextlib.contextmanager
def hold(directory, flag="--model_dir"):
    """Keeps other processes out of a run directory while the block runs.

    The lock is the kernel's, on the file `lock`, so it ends with its process however that
    ends; the file only says who holds it. Where the file system knows no locks, a warning
    says so and the block runs without.

    Args:
        directory: path of the run directory, or of another one that has one writer.
        flag: of the tool, that chooses another directory.

    Yields:
        The locked file, None where there are no locks. A child process that inherits it
        holds the lock, too.

    Raises:
        InputError: if another process holds the lock; names it and its machine.
    """
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


def sign(file, *pids):
    """Writes into a locked file who holds it.

    Args:
        file: what `hold` yields.
        *pids: numbers of the processes.
    """
    file.seek(0)
    file.truncate()
    file.write(f"process {' or '.join(map(str, pids))} on {socket.gethostname()}")
    file.flush()


def _lock(path, flag):
    """The open and locked file; None where there are no locks."""
    while True:
        file = path.open("a+")
        try:
            if fcntl is None:
                raise OSError("this system has none")
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
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
