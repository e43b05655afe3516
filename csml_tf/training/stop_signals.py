"""SIGTERM, Ctrl-C and what clusters and terminals send: a run ends where nothing is lost."""

import contextlib
import os
import signal
import sys
import threading

from absl import logging

# A terminal that closes sends SIGHUP; clusters warn by SIGUSR1, SIGUSR2 or SIGXCPU before the end.
_STOPPING = tuple(
    getattr(signal, name)
    for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")
    if hasattr(signal, name)  # Windows has the first two.
)
_ALWAYS = (signal.SIGTERM, signal.SIGINT)
_END_WATCH = b"\0"  # No signal has the number 0.


class Stopped(BaseException):
    """The run has ended because it was told to; its text says how to go on.

    Like KeyboardInterrupt no `Exception`, so that nothing on its way takes it for a fault.

    Attributes:
        signal: `signal.Signals`.
    """

    def __init__(self, number, where):
        self.signal = signal.Signals(number)
        super().__init__(f"Stopped by {self.signal.name} {where}: repeat the command to go on.")


def free_signals():
    """Those of the signals that may be handled: nobody ignores them or has a use of his own."""
    return [one for one in _STOPPING if one in _ALWAYS or signal.getsignal(one) is signal.SIG_DFL]


class StopSignals:
    """Within it, SIGTERM, SIGINT and their like are noted until the run asks for them by `check`.

    Args:
        agree: function from the number of this worker's signal, 0 for none, to that of any
            worker's, the same on all; every worker has to `check` at the same places.

    A second SIGINT ends the process at once, in the middle of a step too. Outside the main
    thread, where Python handles no signals, nothing is ever noted, and neither are those of the
    others that are ignored, as SIGHUP under nohup, or have a handler already. Leaving puts the
    handlers back that were there before.

    Attributes:
        received: number of the first signal; None before.
    """

    def __init__(self, agree=lambda number: number):
        self.received = None
        self._agree = agree
        self._doing = None

    def __enter__(self):
        self._is_on = threading.current_thread() is threading.main_thread()
        if self._is_on:
            reader, self._writer = os.pipe()
            os.set_blocking(self._writer, False)
            # The interpreter runs `_note` between two calls into TensorFlow, and tells the
            # watcher at once.
            self._old_writer = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
            self._old_handlers = {one: signal.signal(one, self._note) for one in free_signals()}
            self._watcher = threading.Thread(
                target=_watch, args=[reader, {*self._old_handlers}], daemon=True
            )
            self._watcher.start()
        return self

    def __exit__(self, error_type, error, traceback):
        if not self._is_on:
            return
        for one, handler in self._old_handlers.items():
            signal.signal(one, handler)
        signal.set_wakeup_fd(self._old_writer)
        os.write(self._writer, _END_WATCH)
        self._watcher.join()
        os.close(self._writer)
        if error is None:
            self.check("after its last step")

    def ask(self):
        """Whether a signal has come to any worker."""
        # One that comes while the workers agree waits for the next time.
        agreed = self._agree(self.received or 0)
        self.received = self.received or agreed or None
        return bool(agreed)

    def check(self, where):
        """Raises `Stopped` if a signal has come; `where` goes into its text."""
        if self.ask():
            raise Stopped(self.received, where)

    def end_at_once(self, doing):
        """From here on a signal ends the run without waiting for `check`; None takes it back.

        Args:
            doing: what would have to be done again, for the text.
        """
        self._doing = doing
        if doing is not None:
            self.check(f"before {doing}")

    @contextlib.contextmanager
    def ending_at_once(self, doing):
        """`end_at_once` while the block runs."""
        self.end_at_once(doing)
        try:
            yield
        finally:
            self._doing = None

    def _note(self, number, frame):
        if self.received is None:
            self.received = number
        if self._doing is not None:
            raise Stopped(self.received, f"while {self._doing}, which will be done again")


def _watch(reader, stopping):
    """Answers signals that come while the main thread is inside a step of minutes."""
    received = []
    while True:
        number = os.read(reader, 1)[0]
        if number == _END_WATCH[0]:
            break
        if number not in stopping:
            continue
        name = signal.Signals(number).name
        if not received:
            logging.warning("%s: the run ends after this step; Ctrl-C ends it at once.", name)
        elif number == signal.SIGINT:
            print("Ended at once: repeat the command to go on.", file=sys.stderr, flush=True)
            os._exit(128 + number)
        received.append(number)
    os.close(reader)
