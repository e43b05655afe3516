"""One epoch of a run: mining, steps, checks, measurements, and what is written down."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging

from csml_tf import errors
from csml_tf.training import forward_units, health, time_left, workers
from csml_tf.training.assembly import Assembly
from csml_tf.training.best_encoder import BestEncoder
from csml_tf.training.checkpoint import Progress, RunCheckpoint
from csml_tf.training.epoch_row import EpochRow
from csml_tf.training.health import Health
from csml_tf.training.loss_guard import LossGuard
from csml_tf.training.mid_epoch import MidEpoch
from csml_tf.training.run_directory import RunDirectory
from csml_tf.training.step_clock import StepClock
from csml_tf.training.stop_signals import StopSignals
from csml_tf.training.training_bar import TrainingBar
from csml_tf.training.user_callbacks import UserCallbacks


class Epoch:
    """The epochs of a run, one at a time.

    Args:
        assembled: what is trained.
        directory: where this worker writes.
        checkpoints: of the run.
        stops: that may end it.
        monitors: as for `pretrain.run`.
        callbacks: of the user's.
    """

    def __init__(
        self,
        assembled: Assembly,
        directory: RunDirectory,
        checkpoints: RunCheckpoint,
        stops: StopSignals,
        monitors: Sequence[Any],
        callbacks: UserCallbacks,
    ):
        self._assembled = assembled
        self._directory = directory
        self._checkpoints = checkpoints
        self._stops = stops
        self._monitors = monitors
        self._callbacks = callbacks
        self._best = BestEncoder(directory)
        self._health = Health(assembled)
        self._clock = StepClock(assembled.num_steps, self._announce_end)
        # {name: kNN accuracy} of what needs no training, from the epoch that has measured it on.
        rows = directory.read_metrics()
        known = (row["knn_baselines"] for row in rows if "knn_baselines" in row)
        self._baselines: dict[str, float] = next(known, {})
        self._board = tf.summary.create_file_writer(str(directory.tensorboard))

    def run(self, begun: Progress) -> bool:
        """Does the epoch `begun.epoch`, or what is left of it, and saves the run.

        Returns:
            Whether a callback wants the training to end here.

        Raises:
            As `pretrain.run`.
        """
        assembled, epoch = self._assembled, begun.epoch
        model, strategy, epochs = assembled.model, assembled.strategy, assembled.parts.epochs
        row = EpochRow(begun, assembled.num_steps, assembled.learning_rate(epoch))
        refresh = assembled.refresh
        if refresh is not None and refresh.is_due(epoch):
            doing = f"mining the neighbors before epoch {epoch + 1}"
            with strategy.scope(), self._stops.ending_at_once(doing), self._clock.paused():
                row.update(refresh.refresh(model.base.mining_encoder, epoch))
            self._checkpoints.save(row.progress(step=0))
        due = [monitor for monitor in self._monitors if monitor.is_due(epoch + 1, epochs)]
        if "loss" not in row:  # It is, where a run was stopped while it measured.
            row.update(self._train(begun, row))
            model.base.average_moving_statistics(strategy)
            workers.check_same_state(strategy, model.base.shared_state, assembled.table)
            with strategy.scope():
                row.update(self._health.measure(epoch, row.read()))
            if due:
                self._checkpoints.save(row.progress(assembled.num_steps))
        for monitor in due:
            doing = f"measuring after epoch {epoch + 1}"
            with strategy.scope(), self._stops.ending_at_once(doing), self._clock.paused():
                row.update(_measure(monitor, model.encoder, epoch))
        figures = row.read()
        if workers.is_alone(strategy):  # To read the weights would be to ask all workers.
            self._best.offer(figures, model.encoder)
        self._report(figures)
        self._checkpoints.save(Progress(epoch + 1))
        return self._callbacks.finish_epoch(epoch, figures)

    def _train(self, begun, row):
        """The steps of the epoch, or those that are left: {name: mean over the whole epoch}."""
        assembled, epoch = self._assembled, begun.epoch
        model, parts, num_steps = assembled.model, assembled.parts, assembled.num_steps
        learning_rate = assembled.learning_rate(epoch)
        model.epoch.assign(epoch)
        model.optimizer.learning_rate.assign(learning_rate)
        bar = TrainingBar(
            *(parts.epochs, num_steps, parts.global_batch_size, begun.step, begun.timed)
        )
        guard = LossGuard(epoch, begun.step, learning_rate, self._checkpoints)
        save_every = parts.checkpoint_every_steps or 0
        saver = MidEpoch(
            *(begun, row, num_steps, save_every, guard, bar, self._checkpoints, self._stops)
        )
        with contextlib.closing(bar):
            model.fit(
                assembled.make_batches(epoch, begun.step),
                steps_per_epoch=num_steps - begun.step,
                initial_epoch=epoch,
                epochs=epoch + 1,
                # The saver comes last, because it may end the run.
                callbacks=[guard, bar, self._clock, self._callbacks, saver],
                verbose=0,
            )
        guard.check()
        anchors = num_steps * parts.global_batch_size
        units = forward_units.per_image(model, assembled.augmentations, epoch)
        return {
            **model.mean_losses,
            "images_per_sec": bar.images_per_sec,
            "input_wait_fraction": bar.input_wait_fraction,
            "anchors": anchors,
            "forward_units": anchors * units,
        }

    def _announce_end(self, pace):
        assembled = self._assembled
        steps = int(assembled.model.optimizer.iterations.numpy())
        progress = Progress(*divmod(steps, assembled.num_steps))
        time_left.announce(pace, assembled, self._monitors, progress)

    def _report(self, row):
        """One epoch's figures, to metrics.jsonl, to TensorBoard and to the log."""
        self._directory.append_metrics(row)
        with self._board.as_default(step=row["epoch"]):
            for name, value in row.items():
                if isinstance(value, (int, float, np.floating)):
                    tf.summary.scalar(name, value)
        self._board.flush()
        self._baselines = row.get("knn_baselines", self._baselines)
        accuracies = ["knn_top1", "linear_top1"]
        shown = ["loss", *accuracies, *health.FIGURES]
        shown += ["neighbor_purity", "neighbor_churn", "neighbor_recall", "images_per_sec"]
        figures = [
            f"{name} {row[name]:.4g}{self._what_is_ahead(row[name]) if name == 'knn_top1' else ''}"
            for name in shown
            if row.get(name) is not None
        ]
        epochs = self._assembled.parts.epochs
        logging.info("epoch %d/%d: %s", row["epoch"], epochs, ", ".join(figures))

    def _what_is_ahead(self, knn_top1):
        """The text " (behind pixels, 0.98)" where the best baseline is ahead, else none."""
        ahead = {name: top1 for name, top1 in self._baselines.items() if top1 > knn_top1}
        if not ahead:
            return ""
        name, top1 = max(ahead.items(), key=lambda item: item[1])
        return f" (behind {name.replace('_', ' ')}, {top1:.4g})"


def _measure(monitor, encoder, epoch):
    """What a monitor measures; {} and a warning where it cannot: the training is worth more."""
    try:
        return monitor.measure(encoder)
    except Exception as error:
        if errors.is_of_another_worker(error):
            raise
        logging.warning(
            "%s could not measure after epoch %d (%s: %s); the training goes on.",
            *(type(monitor).__name__, epoch + 1, type(error).__name__, errors.first_line(error)),
        )
        return {}
