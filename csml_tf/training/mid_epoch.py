"""A run that is cut in the middle of an epoch: how it is saved, and how it goes on."""

import tensorflow as tf


class MidEpoch(tf.keras.callbacks.Callback):
    """Saves every few steps and when the run is told to stop; goes on with the running means.

    Args:
        begun: `Progress` that the epoch goes on from.
        row: `EpochRow` of the epoch.
        num_steps: of an epoch.
        save_every: steps between two checkpoints; 0 for none before the epoch's end.
        guard: `LossGuard`, asked before anything is saved.
        bar: `TrainingBar`, which knows the speed.
        checkpoints: `RunCheckpoint`.
        stops: `StopSignals`.
    """

    def __init__(self, begun, row, num_steps, save_every, guard, bar, checkpoints, stops):
        super().__init__()
        self._supports_tf_logs = True  # Else Keras reads the logs from the device in every step.
        self._begun = begun
        self._row = row
        self._num_steps = num_steps
        self._save_every = save_every
        self._guard = guard
        self._bar = bar
        self._checkpoints = checkpoints
        self._stops = stops

    def on_train_begin(self, logs=None):
        """Notes the running means that came with the checkpoint, before Keras resets them."""
        self._means = [(variable, variable.numpy()) for variable in self.model.means.variables]

    def on_epoch_begin(self, epoch, logs=None):
        """Gives the running means back, in the middle of an epoch."""
        if self._begun.step:
            for variable, value in self._means:
                variable.assign(value)
        # Its tracing may take minutes, and everything before it is saved.
        self._stops.end_at_once("making the first step")

    def on_train_batch_end(self, batch, logs=None):
        """Saves where it is time, and ends the run where it was told to."""
        self._stops.end_at_once(None)
        step = self._begun.step + batch + 1
        if step == self._num_steps:
            return  # What follows an epoch saves.
        is_due = self._save_every and step % self._save_every == 0
        # A signal that comes after this line waits for the next step, which is saved too.
        told_to_stop = self._stops.ask()
        if is_due or told_to_stop:
            self._guard.check()
            self._checkpoints.save(self._row.progress(step, self._bar.timed))
        if told_to_stop:
            self._stops.check(f"at step {step} of epoch {self._begun.epoch + 1}")
