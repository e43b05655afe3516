"""Locks where no kernel has any: a file on an object store that its holder keeps renewing."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

from absl import logging

from csml_tf import places, whole_files
from csml_tf.errors import InputError, first_line

RENEW_S = 30.0
STALE_S = 180.0
# Longer than two processes take to read and write, so that each then reads what came last.
SETTLE_S = 3.0


@contextlib.contextmanager
def hold(directory: str | os.PathLike, flag: str = "--model_dir") -> Iterator[None]:
    """Keeps other processes out of a folder on a store while the block runs.

    The file `lock` says who holds the folder and when that process was last alive, which it
    writes anew every `RENEW_S` seconds. A lease that is older than `STALE_S` seconds is of a
    process that died, and is taken over; so the clocks of the machines have to agree to a minute.

    It is weaker than a kernel's lock. TensorFlow writes to a store without asking whether the
    file is still as it was read, so of two processes that begin at once both find no lease. Each
    waits `SETTLE_S` seconds after writing and reads again, by which the later one wins; a store
    that takes longer than that to show what was written would let both in. A process that was
    suspended for longer than `STALE_S` may find its lease taken when it wakes up, and says so.

    Args:
        directory: URL of the folder.
        flag: of the tool, that chooses another directory.

    Raises:
        InputError: if another process holds the lease; names it and its machine.
    """
    lease = _Lease(directory)
    lease.take(flag)
    done = threading.Event()
    heart = threading.Thread(target=lease.keep, args=(done,), name="lease", daemon=True)
    heart.start()
    try:
        yield
    finally:
        done.set()
        heart.join()
        lease.end()


class _Lease:
    def __init__(self, directory):
        self._directory = directory
        self._path = places.at(directory, "lock")
        self._holder = f"process {os.getpid()} on {socket.gethostname()}"
        self._token = uuid.uuid4().hex

    def take(self, flag):
        found = self._read()
        if found is not None:
            age = time.time() - found["renewed"]
            if age < STALE_S:
                self._refuse(found, flag)
            logging.info(
                "The lease on %s is taken over from %s, last heard of %d minutes ago.",
                *(self._directory, found["holder"], age // 60),
            )
        self._write()
        time.sleep(SETTLE_S)
        found = self._read()
        if found is None or found["token"] != self._token:
            self._refuse(found or {"holder": "another process", "renewed": time.time()}, flag)

    def keep(self, done: threading.Event) -> None:
        """Renews the lease until it is done, or somebody else's."""
        while not done.wait(RENEW_S):
            try:
                found = self._read()
                if found is not None and found["token"] != self._token:
                    logging.error(
                        "The lease on %s was taken over by %s, as nothing was heard of this "
                        "process for %d seconds: stop one of the two.",
                        *(self._directory, found["holder"], STALE_S),
                    )
                    return
                self._write()
            except OSError as error:  # The store may answer the next time.
                logging.warning(
                    "The lease on %s could not be renewed (%s).",
                    *(self._directory, first_line(error)),
                )

    def end(self):
        with contextlib.suppress(OSError):  # It ends by itself.
            found = self._read()
            if found is not None and found["token"] == self._token:
                self._path.unlink(missing_ok=True)

    def _refuse(self, found, flag):
        left = max(0, found["renewed"] + STALE_S - time.time())
        raise InputError(
            f"{self._directory} is in use by {found['holder']}: wait for its end or stop it, or "
            f"choose another {flag}; if it has died, its lease ends in {left:.0f} seconds."
        )

    def _read(self) -> dict[str, Any] | None:
        """What the file says; None where there is none that can be read."""
        try:
            content = json.loads(self._path.read_bytes())
            return {name: content[name] for name in ("holder", "token", "renewed")}
        except (FileNotFoundError, ValueError, LookupError, TypeError) as error:
            if isinstance(error, InputError):
                raise
            return None

    def _write(self):
        content = {"holder": self._holder, "renewed": time.time(), "token": self._token}
        whole_files.write(self._path, json.dumps(content) + "\n")
