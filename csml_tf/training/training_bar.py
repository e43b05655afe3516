"""The progress bar of a run."""

import time

import tensorflow as tf

from csml_tf import progress

_SHOW_EVERY_S = 1.0


class TrainingBar(tf.keras.callbacks.Callback):
    """One line per epoch: steps done, time left in the epoch and in the run, speed, input wait.

    All times are of a clock that nobody sets, so tqdm's own, which are not, are left out.

    Args:
        epochs: of the whole run.
        num_steps: of an epoch.
        global_batch_size: anchors per step.
        first_step: steps of the epoch that were done before.
        timed: what `timed` was then.
    """

    def __init__(self, epochs, num_steps, global_batch_size, first_step=0, timed=(0, 0.0, 0.0)):
        super().__init__()
        self._supports_tf_logs = True  # Else Keras reads the logs from the device in every step.
        self._epochs = epochs
        self._num_steps = num_steps
        self._global_batch_size = global_batch_size
        self._first_step = first_step
        self._timed_before = timed
        self._bar = None
        self._started = None

    @property
    def timed(self):
        """(steps, seconds, seconds of these that waited for input) of the epoch by now.

        The first step of each process is left out, since it includes the tracing.
        """
        if self._started is None:
            return self._timed_before
        now = (
            self._step - self._first_timed,
            self._now - self._started,
            self.model.input_wait_s - self._started_wait_s,
        )
        return tuple(before + here for before, here in zip(self._timed_before, now))

    @property
    def images_per_sec(self):
        """Of the epoch by now; None before its second step."""
        steps, seconds, _ = self.timed
        return steps * self._global_batch_size / seconds if steps else None

    @property
    def input_wait_fraction(self):
        """Share of the time that waited for input, in [0, 1]; None before the second step."""
        steps, seconds, waited = self.timed
        return waited / seconds if steps else None

    def on_epoch_begin(self, epoch, logs=None):
        """Starts the bar."""
        self._epoch = epoch
        self._bar = progress.make_bar(
            total=self._num_steps,
            initial=self._first_step,
            desc=f"epoch {epoch + 1}/{self._epochs}",
            bar_format="{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} steps{postfix}",
        )

    def on_train_batch_end(self, batch, logs=None):
        """Moves the bar; the clock starts after the first step, which includes the tracing."""
        self._bar.update()
        self._step = self._first_step + batch + 1
        self._now = time.perf_counter()
        if self._started is None:
            self._started = self._shown = self._now
            self._started_wait_s = self.model.input_wait_s
            self._first_timed = self._step
        # To read the loss waits for the device, so not after every step.
        elif self._now - self._shown > _SHOW_EVERY_S:
            self._shown = self._now
            self._show(float(logs["loss"]))

    def on_epoch_end(self, epoch, logs=None):
        """Takes the time anew: Keras has waited for the device."""
        self._now = time.perf_counter()

    def close(self):
        """Takes the bar from the screen."""
        if self._bar is not None:
            self._bar.close()

    def _show(self, loss):
        seconds_per_step = self._global_batch_size / self.images_per_sec
        epoch_left_s = (self._num_steps - self._step) * seconds_per_step
        later_s = (self._epochs - self._epoch - 1) * self._num_steps * seconds_per_step
        self._bar.set_postfix_str(
            f"loss {loss:.3f}, {self.images_per_sec:.0f} images/s, "
            f"input wait {self.input_wait_fraction:.0%}, epoch ends in "
            f"{_duration(epoch_left_s)}, run in {_duration(epoch_left_s + later_s)}",
        )


def _duration(seconds):
    hours, seconds = divmod(round(seconds), 3600)
    return f"{hours}:{seconds // 60:02d}:{seconds % 60:02d}"
