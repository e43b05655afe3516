"""Ends a run whose loss is no longer a finite number."""

import math
import time

import tensorflow as tf

from csml_tf.errors import InputError

_LOOK_EVERY_S = 1.0


class LossGuard(tf.keras.callbacks.Callback):
    """Looks at the loss about once a second, and whenever `check` is called.

    The running means of an epoch stay what they are once they are not finite, so the newest
    one speaks for all steps before it. To say which step it was, the means of the steps
    since the last look are kept; they are read from the device only then.

    Args:
        epoch: int from 0.
        first_step: steps of the epoch that were done before.
        learning_rate: of the epoch.
        checkpoints: `RunCheckpoint`, which knows the last good state.
    """

    def __init__(self, epoch, first_step, learning_rate, checkpoints):
        super().__init__()
        self._supports_tf_logs = True  # Else Keras reads the logs from the device in every step.
        self._epoch = epoch
        self._first_step = first_step
        self._learning_rate = learning_rate
        self._checkpoints = checkpoints
        self._unread = []
        self._looked = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        """Keeps the step's means; looks at them when it is time."""
        self._unread.append((self._first_step + batch + 1, logs))
        if time.perf_counter() - self._looked > _LOOK_EVERY_S:
            self.check()

    def check(self):
        """Looks at the newest loss; waits for the device.

        Raises:
            InputError: if the loss of any step so far is not finite; names the first one, the
                learning rate, and the parts of the loss that were not finite first.
        """
        if self._unread and not math.isfinite(float(self._unread[-1][1]["loss"])):
            self._raise()
        self._unread.clear()
        self._looked = time.perf_counter()

    def _raise(self):
        step, logs = next(
            (step, logs) for step, logs in self._unread if not math.isfinite(float(logs["loss"]))
        )
        means = {name: float(mean) for name, mean in logs.items()}
        total = means.pop("loss")
        spoilt = [name for name, mean in means.items() if not math.isfinite(mean)]
        parts = ", ".join(" ".join(name.split("_")[1:]) for name in spoilt)
        raise InputError(
            f"The loss is {total} from step {step} of epoch {self._epoch + 1} on, at a "
            f"learning rate of {self._learning_rate:.4g}, "
            f"{'in all of its parts' if len(spoilt) == len(means) else f'first in {parts}'}: lower "
            "LEARNING_RATE, or raise TEMPERATURE, and start anew with another --model_dir; the "
            f"last good state is {self._checkpoints.describe_newest()}."
        )
