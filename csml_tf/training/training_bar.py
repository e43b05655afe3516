"""The progress bar of a run."""

import time

import tensorflow as tf
import tqdm

_SHOW_EVERY_S = 1.0


class TrainingBar(tf.keras.callbacks.Callback):
    """One line per epoch: steps done, time left in the epoch and in the run, speed, input wait.

    Keeps the figures of the last epoch in `images_per_sec` and `input_wait_fraction`.

    Args:
        epochs: of the whole run.
        num_steps: of an epoch.
        global_batch_size: anchors per step.
    """

    def __init__(self, epochs, num_steps, global_batch_size):
        super().__init__()
        self._epochs = epochs
        self._num_steps = num_steps
        self._global_batch_size = global_batch_size
        self.images_per_sec = None
        self.input_wait_fraction = None

    def on_epoch_begin(self, epoch, logs=None):
        """Starts the bar and the clock."""
        self._epoch = epoch
        self._bar = tqdm.tqdm(
            total=self._num_steps,
            desc=f"epoch {epoch + 1}/{self._epochs}",
            unit=" steps",
            leave=False,  # The log has a line for a finished epoch.
            dynamic_ncols=True,
        )
        self._started = None

    def on_train_batch_end(self, batch, logs=None):
        """Moves the bar; the clock starts after the first step, which includes the tracing."""
        self._bar.update()
        now = time.perf_counter()
        if self._started is None:
            self._started = self._shown = now
            self._started_wait_s = self.model.input_wait_s
            self._first_batch = batch
        # To read the loss waits for the device, so not after every step.
        elif now - self._shown > _SHOW_EVERY_S:
            self._shown = now
            self._measure(batch)
            self._show(batch, float(logs["loss"]))

    def on_epoch_end(self, epoch, logs=None):
        """Takes the figures of the whole epoch and closes the bar."""
        if self._num_steps - 1 > self._first_batch:
            self._measure(self._num_steps - 1)
        self._bar.close()

    def _show(self, batch, loss):
        left_s = (self._epochs - self._epoch) * self._num_steps - (batch + 1)
        left_s *= self._global_batch_size / self.images_per_sec
        self._bar.set_postfix_str(
            f"loss {loss:.3f}, {self.images_per_sec:.0f} images/s, "
            f"input wait {self.input_wait_fraction:.0%}, run ends in {_duration(left_s)}",
        )

    def _measure(self, batch):
        elapsed_s = time.perf_counter() - self._started
        steps = batch - self._first_batch
        self.images_per_sec = steps * self._global_batch_size / elapsed_s
        self.input_wait_fraction = (self.model.input_wait_s - self._started_wait_s) / elapsed_s


def _duration(seconds):
    hours, seconds = divmod(round(seconds), 3600)
    return f"{hours}:{seconds // 60:02d}:{seconds % 60:02d}"
