"""Keras callbacks of the user's, over a run that is many calls of `fit`."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from csml_tf import errors
from csml_tf.errors import InputError
from csml_tf.training.checkpoint import RunCheckpoint


class UserCallbacks(tf.keras.callbacks.Callback):
    """Hands on what a run does to the user's callbacks, as if it were one call of `fit`.

    `on_train_begin` and `on_train_end` come once in a process, and `on_epoch_end` when the epoch
    is measured and saved, with all figures of its row: the loss and its parts, learning rate,
    speed, accuracies. A callback that fails ends the run in a sentence, and what is saved stays.

    Args:
        callbacks: Keras callbacks, or functions of no arguments that make one.
        checkpoints: of the run, which knows what is saved.
    """

    def __init__(self, callbacks: Sequence[Any], checkpoints: RunCheckpoint):
        super().__init__()
        self._supports_tf_logs = True  # The list below reads them where one of its members asks.
        is_made = tf.keras.callbacks.Callback
        made = [each if isinstance(each, is_made) else each() for each in callbacks]
        self._callbacks = tf.keras.callbacks.CallbackList(made)
        self._checkpoints = checkpoints
        self._has_begun = False

    def set_model(self, model):
        """As Keras' own."""
        super().set_model(model)
        self._callbacks.set_model(model)

    def on_train_begin(self, logs=None):
        """Of the first epoch only."""
        if not self._has_begun:
            self._has_begun = True
            self._callbacks.set_params(self.params)
            with self._in_a_sentence("when the training began"):
                self._callbacks.on_train_begin(logs)

    def on_epoch_begin(self, epoch, logs=None):
        """Handed on."""
        self._epoch = epoch
        with self._in_a_sentence(f"at the beginning of epoch {epoch + 1}"):
            self._callbacks.on_epoch_begin(epoch, logs)

    def on_train_batch_begin(self, batch, logs=None):
        """Handed on."""
        with self._in_a_sentence(f"in epoch {self._epoch + 1}"):
            self._callbacks.on_train_batch_begin(batch, logs)

    def on_train_batch_end(self, batch, logs=None):
        """Handed on."""
        with self._in_a_sentence(f"in epoch {self._epoch + 1}"):
            self._callbacks.on_train_batch_end(batch, logs)

    def finish_epoch(self, epoch: int, row: dict[str, Any]) -> bool:
        """Tells of an epoch, from 0, that is measured and saved.

        Returns:
            Whether a callback wants the training to end.
        """
        with self._in_a_sentence(f"at the end of epoch {epoch + 1}"):
            self._callbacks.on_epoch_end(epoch, dict(row))
        return bool(self.model is not None and self.model.stop_training)

    def finish(self) -> None:
        """Tells of the end of the training."""
        if self._has_begun:
            with self._in_a_sentence("when the training ended"):
                self._callbacks.on_train_end()

    @contextlib.contextmanager
    def _in_a_sentence(self, moment):
        try:
            yield
        except InputError:
            raise
        except Exception as error:
            raise InputError(
                f"A callback failed {moment} ({type(error).__name__}: {errors.first_line(error)}): "
                "mend or leave it out and repeat the command; it goes on from "
                f"{self._checkpoints.describe_newest()}."
            ) from error
