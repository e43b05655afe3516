"""A pretraining run from start to end: read this to see what happens when."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Callable

import tensorflow as tf
from absl import logging

from csml_tf.data.sources.base import ImageSource
from csml_tf.methods.method import TrainingModel
from csml_tf.training import assembly, checkpoint, plan, workers
from csml_tf.training.checkpoint import Progress
from csml_tf.training.epoch import Epoch
from csml_tf.training.run_directory import RunDirectory, without_places
from csml_tf.training.stop_signals import StopSignals
from csml_tf.training.user_callbacks import UserCallbacks


def run(
    run_directory: RunDirectory,
    source: ImageSource,
    strategy: tf.distribute.Strategy,
    parts: assembly.Parts,
    center_view: Any,
    settings: Callable[[], str],
    monitors: Sequence[Any] = (),
    initialize: Callable[[TrainingModel], None] | None = None,
) -> TrainingModel:
    """Pretrains an encoder, or goes on with a run that was interrupted.

    A run that goes on ends as if nothing had happened: it takes up the state of the newest
    checkpoint, in the middle of an epoch too. Checkpoints are written at each epoch's end,
    after each mining, before a monitor measures, every `parts.checkpoint_every_steps` steps,
    and when SIGTERM or SIGINT asks the run to stop.

    Under a strategy with several workers each of them calls this with the same arguments.
    All do the same but for the files, which are the chief's: the others keep theirs in a
    temporary folder, and read the chief's checkpoints from a folder that all workers see.

    Args:
        run_directory: where the run lives.
        source: of the training images.
        strategy: of the run.
        parts: what the recipe says.
        center_view: `augment.center_view.CenterView`, for mining.
        settings: function of no arguments, called when everything is built, that
            returns the configuration as text, for `RunDirectory.claim`.
        monitors: objects with `is_due(finished_epochs, epochs)`, `measure(encoder)`, which
            returns {name: number} for the metrics, and `num_images`, which it encodes for that.
        initialize: function of the new model, which may set its weights before the first step;
            None leaves them random.

    Returns:
        The trained model.

    Raises:
        InputError: if source, batch and recipe do not fit each other, the run
            directory belongs to a run with other settings or images or is in use by
            another process, another worker has other ones, no checkpoint can be read, the
            disk is full, or the loss is no longer a finite number.
        stop_signals.Stopped: if SIGTERM or SIGINT has come; the state is saved.
    """
    assembled = assembly.assemble(parts, source, strategy, center_view)
    model = assembled.model
    text = settings()
    workers.check_same_settings(strategy, f"{without_places(text)}\n{source.fingerprint}")

    with workers.own_directory(strategy, run_directory) as own_directory:
        own_directory.claim(text, source)
        checkpoints = checkpoint.RunCheckpoint(
            own_directory.checkpoints, model, assembled.table, read_from=run_directory.checkpoints
        )
        progress = checkpoints.load(workers.share_number(strategy, checkpoints.find_newest))
        own_directory.drop_metrics_after(progress.epoch)
        if progress.epoch >= parts.epochs:
            plan.log_finished(run_directory.path, parts.epochs)
            return model
        plan.log_training(assembled)
        if progress == Progress() and initialize is not None:
            with strategy.scope():
                initialize(model)
        # That of a checkpoint may be of a shorter run.
        model.steps_of_run.assign(parts.epochs * assembled.num_steps)
        plan.log_resumption(run_directory.path, progress)
        callbacks = UserCallbacks(parts.callbacks, checkpoints)
        with StopSignals(functools.partial(workers.largest, strategy)) as stops:
            epoch = Epoch(assembled, own_directory, checkpoints, stops, monitors, callbacks)
            for number in range(progress.epoch, parts.epochs):
                begun = progress if number == progress.epoch else Progress(number)
                if epoch.run(begun):
                    logging.info("A callback ends the training after epoch %d.", number + 1)
                    break
                stops.check(f"after epoch {number + 1}")
            callbacks.finish()
    return model
