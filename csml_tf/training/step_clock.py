"""How long a step takes, once a few of them are timed."""

from __future__ import annotations

import datetime
import time
from typing import Callable

import tensorflow as tf
from absl import logging

from csml_tf.training.assembly import Assembly

# The first ones trace, and fill what the input has ready.
_SKIPPED_STEPS = 3
_MIN_STEPS = 10
_MIN_SECONDS = 15.0
_MAX_STEPS = 500


class StepClock(tf.keras.callbacks.Callback):
    """Times steps until that is enough, and then calls a function of the seconds for one.

    What happens between epochs does not count: mining, accuracy, checkpoints.

    Args:
        when_known: function of the seconds of a step, called once.
    """

    def __init__(self, when_known: Callable[[float], None]):
        super().__init__()
        self._supports_tf_logs = True  # Else Keras reads the logs from the device in every step.
        self._when_known = when_known
        self._seen = 0
        self._seconds = 0.0
        self._is_known = False

    def on_epoch_begin(self, epoch, logs=None):
        """Starts the clock."""
        self._last = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        """Adds a step."""
        if self._is_known:
            return
        now = time.perf_counter()
        self._seen += 1
        timed = self._seen - _SKIPPED_STEPS
        if timed > 0:
            self._seconds += now - self._last
        self._last = now
        is_long = timed >= _MIN_STEPS and self._seconds >= _MIN_SECONDS
        if is_long or timed >= _MAX_STEPS:
            self._is_known = True
            self._when_known(self._seconds / timed)


def measure(assembled: Assembly) -> float:
    """Seconds of a step, by training a model that is thrown away; takes half a minute or so."""
    found = []

    def stop(seconds):
        found.append(seconds)
        assembled.model.stop_training = True

    # As many epochs as it takes: a small set has few steps in each.
    assembled.model.fit(
        assembled.make_batches(0, 0),
        epochs=_SKIPPED_STEPS + _MAX_STEPS,
        callbacks=[StepClock(stop)],
        verbose=0,
    )
    tf.keras.backend.clear_session()
    return found[0]


def announce(seconds_of_a_step: float, steps_left: int, anchors: int) -> None:
    """Logs how long the run takes from now on, and when it will end.

    Args:
        seconds_of_a_step: as measured.
        steps_left: of the whole run.
        anchors: of a step.
    """
    left_s = seconds_of_a_step * steps_left
    end = datetime.datetime.now() + datetime.timedelta(seconds=left_s)
    logging.info(
        "%.0f images/s: %.2f hours to go, until %s; accuracy, mining and checkpoints come on top.",
        *(anchors / seconds_of_a_step, left_s / 3600, f"{end:%Y-%m-%d %H:%M}"),
    )
