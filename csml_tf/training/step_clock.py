"""How long a step takes, and what lies between two epochs, once a few of them are timed."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import statistics
import time
from collections.abc import Iterator
from typing import Callable

import tensorflow as tf

from csml_tf.training import workers
from csml_tf.training.assembly import Assembly

# The first ones trace, and fill what the input has ready.
_SKIPPED_STEPS = 3
_MIN_STEPS = 10
_MAX_STEPS = 500
_MIN_SECONDS = 15.0
# What lies between epochs so long may stay unknown.
_LONG_EPOCH_S = 60.0


@dataclasses.dataclass(frozen=True)
class Pace:
    """How fast a run is.

    Attributes:
        step_s: seconds of a step.
        between_epochs_s: seconds from an epoch's last step to the next one's first, for input and
            checkpoint; accuracy and mining left out.
        epoch: from 0, the last that was timed.
    """

    step_s: float
    between_epochs_s: float = 0.0
    epoch: int = 0


class StepClock(tf.keras.callbacks.Callback):
    """Times steps, over one or several calls of `fit`, until that is enough.

    Args:
        num_steps: of an epoch.
        when_known: function of the `Pace`, called once.
        agree: function of 1 where this worker has timed enough, else of 0, to the largest of
            all workers' numbers: they end after the same step.
    """

    def __init__(
        self,
        num_steps: int,
        when_known: Callable[[Pace], None],
        agree: Callable[[int], int] = int,
    ):
        super().__init__()
        self._supports_tf_logs = True  # Else Keras reads the logs from the device in every step.
        self._num_steps = num_steps
        self._when_known = when_known
        self._agree = agree
        self._seen = 0
        self._steps: list[float] = []
        self._between: list[float] = []
        self._last: float | None = None
        self._paused = 0.0
        self._is_known = False

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """What happens in it does not count."""
        started = time.perf_counter()
        yield
        self._paused += time.perf_counter() - started

    def on_epoch_begin(self, epoch, logs=None):
        """The next step is an epoch's first."""
        self._is_first = True
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        """Adds a step."""
        if self._is_known:
            return
        now = time.perf_counter()
        self._seen += 1
        if self._last is not None and self._is_first:
            self._between.append(now - self._last - self._paused)
        elif self._last is not None and self._seen > _SKIPPED_STEPS:
            self._steps.append(now - self._last)
        self._last, self._paused, self._is_first = now, 0.0, False
        if self._agree(int(self._is_enough())):
            self._is_known = True
            # Where an epoch is a single step, what lies before it is in its time.
            step_s = statistics.fmean(self._steps or self._between)
            # The first step of the epoch is in it.
            between_s = statistics.median(self._between or [step_s]) - step_s
            between_s = max(0.0, between_s) if self._steps else 0.0
            self._when_known(Pace(step_s, between_s, self._epoch))

    def _is_enough(self):
        num_timed = len(self._steps) + len(self._between)
        if num_timed < _MIN_STEPS or (self._num_steps > 1 and not self._steps):
            return False
        seconds = sum(self._steps)
        if not self._between and seconds / len(self._steps) * self._num_steps < _LONG_EPOCH_S:
            return False
        return seconds + sum(self._between) >= _MIN_SECONDS or num_timed >= _MAX_STEPS


def measure(assembled: Assembly) -> Pace:
    """The pace of a run, by training a model that is thrown away; takes half a minute or so."""
    found: list[Pace] = []

    def stop(pace):
        found.append(pace)
        assembled.model.stop_training = True

    agree = functools.partial(workers.largest, assembled.strategy)
    clock = StepClock(assembled.num_steps, stop, agree)
    epoch = 0
    while not found:
        batches = assembled.make_batches(epoch, 0)
        epochs = {"initial_epoch": epoch, "epochs": epoch + 1}
        assembled.model.fit(
            batches, steps_per_epoch=assembled.num_steps, **epochs, callbacks=[clock], verbose=0
        )
        epoch += 1
    tf.keras.backend.clear_session()
    return found[0]
