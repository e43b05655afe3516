"""A verb as a child process: shown while it runs, told of signals, with its last words kept."""

import contextlib
import os
import signal
import subprocess
import sys

from csml_tf import whole_files
from csml_tf.training.stop_signals import Stopped, free_signals

_KEPT_BYTES = 4096
# Not the console command, which an environment that uses a checkout may lack.
_COMMAND = (sys.executable, "-m", "csml_tf.cli")


def run(verb, arguments, lock=None):
    """Runs `csml-tf VERB` to its end; what it prints appears on stderr at once.

    SIGTERM, Ctrl-C and their like go to the child, which saves what it has done; then this
    ends, too.

    Args:
        verb: one of `cli.VERBS`.
        arguments: list of words.
        lock: open file that the child is to hold as long as it lives, even if it outlives
            this process; None for none.

    Returns:
        (exit code, the last line that it printed).

    Raises:
        Stopped: if a signal has come.
    """
    # In a session of its own it hears of Ctrl-C from here only, so once.
    child = subprocess.Popen(
        [*_COMMAND, verb, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        pass_fds=() if lock is None else [lock.fileno()],
    )
    if lock is not None:
        whole_files.sign(lock, os.getpid(), child.pid)
    tail = b""
    with _handing_on_signals(child) as received, child.stdout:
        while True:
            some = child.stdout.read1()
            if not some:
                break
            sys.stderr.write(some.decode(errors="replace"))
            sys.stderr.flush()
            tail = (tail + some)[-_KEPT_BYTES:]
        code = child.wait()
    if received:
        raise Stopped(received[0], f"while {verb} ran")
    lines = tail.decode(errors="replace").replace("\r", "\n").split("\n")
    return code, next((line.strip() for line in reversed(lines) if line.strip()), "")


@contextlib.contextmanager
def _handing_on_signals(child):
    """Yields the list of the signals that have come."""
    received = []

    def hand_on(number, frame):
        del frame
        received.append(number)
        with contextlib.suppress(ProcessLookupError):
            child.send_signal(number)

    handlers = {number: signal.signal(number, hand_on) for number in free_signals()}
    try:
        yield received
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
