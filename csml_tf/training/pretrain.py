"""A pretraining run from start to end: read this to see what happens when."""

import contextlib
import functools

import numpy as np
import tensorflow as tf
from absl import logging

from csml_tf.data import parallel, pipeline
from csml_tf.errors import InputError
from csml_tf.training import checkpoint, forward_units, optim, workers
from csml_tf.training import precision as precisions
from csml_tf.training.addons import StochasticAverage
from csml_tf.training.checkpoint import Progress
from csml_tf.training.epoch_row import EpochRow
from csml_tf.training.loss_guard import LossGuard
from csml_tf.training.mid_epoch import MidEpoch
from csml_tf.training.stop_signals import StopSignals
from csml_tf.training.training_bar import TrainingBar


def run(
    run_directory,
    source,
    strategy,
    settings,
    monitors=(),
    initialize=None,
    *,
    make_model,
    make_optimizer=optim.TorchSGD,
    schedule=optim.cosine_schedule,
    make_neighbor_refresh=None,
    augmentation,
    small_augmentation=None,
    augment_on="host",
    precision="float32",
    jit_compile=False,
    center_view,
    epochs,
    global_batch_size,
    learning_rate_per_256_images=0.03,
    checkpoint_every_steps=1000,
    seed=0,
):
    """Pretrains an encoder, or goes on with a run that was interrupted.

    A run that goes on ends as if nothing had happened: it takes up the state of the newest
    checkpoint, in the middle of an epoch too. Checkpoints are written at each epoch's end,
    after each mining, before a monitor measures, every `checkpoint_every_steps` steps, and
    when SIGTERM or SIGINT asks the run to stop.

    Under a strategy with several workers each of them calls this with the same arguments.
    All do the same but for the files, which are the chief's: the others keep theirs in a
    temporary folder, and read the chief's checkpoints from a folder that all workers see.

    Args:
        run_directory: `RunDirectory`.
        source: `sources.base.ImageSource` of the training images.
        strategy: `tf.distribute.Strategy`.
        settings: function of no arguments, called when everything is built, that
            returns the configuration as text, for `RunDirectory.claim`.
        monitors: objects with `is_due(finished_epochs, epochs)` and
            `measure(query_encoder)`, which returns {name: number} for the metrics.
        initialize: function of the new model, which may set its weights before the first step;
            None leaves them random.
        make_model: function of `seed` and `photometric` that returns a `CsMl`.
        make_optimizer: function of no arguments that returns a Keras optimizer.
        schedule: function of (epoch, epochs, peak_learning_rate) to a learning rate.
        make_neighbor_refresh: function of (source, center_view) that returns a
            `NeighborRefresh`; needed if the model uses neighbours.
        augmentation: `augment.view.ViewAugmentation`.
        small_augmentation: the same for small views; needed if the model takes any.
        augment_on: "host" or "device": where colours, blur and normalisation are done;
            crops always on the host.
        precision: of the encoders' computations, one of `precisions.NAMES`.
        jit_compile: whether XLA compiles the training step.
        center_view: `augment.center_view.CenterView`.
        epochs: of the whole run.
        global_batch_size: anchors per step, over all replicas; in pairs images, half of them
            drawn as anchors.
        learning_rate_per_256_images: peak rate for a batch of 256; the rate of the
            run follows the linear rule.
        checkpoint_every_steps: steps of an epoch between two checkpoints; 0 or None for
            none inside an epoch. Changes no result.
        seed: int; decides weights, order, draws.

    Returns:
        The trained `CsMl`.

    Raises:
        InputError: if source, batch, queue and recipe do not fit each other, the run
            directory belongs to a run with other settings or images or is in use by
            another process, another worker has other ones, no checkpoint can be read, the
            disk is full, or the loss is no longer a finite number.
        stop_signals.Stopped: if SIGTERM or SIGINT has come; the state is saved.
    """
    save_every = checkpoint_every_steps or 0
    _check_numbers(source, epochs, global_batch_size, save_every)
    if augment_on not in pipeline.AUGMENT_ON:
        raise InputError(f"AUGMENT_ON must be one of {pipeline.AUGMENT_ON}, got {augment_on!r}.")
    num_steps = pipeline.steps_per_epoch(source, global_batch_size)
    tf.keras.utils.set_random_seed(seed)

    def photometric(view_name, crops, uniforms):
        return augmentations[view_name].photometric(crops, uniforms)

    with strategy.scope(), precisions.policy(precision):
        model = make_model(
            seed=seed,
            num_images=len(source),
            photometric=photometric if augment_on == "device" else None,
        )
        optimizer = make_optimizer()
        if isinstance(optimizer, StochasticAverage):
            optimizer.plan(num_steps, epochs)
        model.compile(precisions.scale_loss(optimizer, precision), jit_compile=jit_compile)
    augmentations = choose_augmentations(model, augmentation, small_augmentation)
    refresh = make_neighbor_refresh(source, center_view) if model.uses_neighbors else None
    table = None if refresh is None else refresh.table
    bank = model.banks.get(model.query_encoder.levels[-1])
    if refresh is not None and refresh.layer == "bank" and bank is None:
        raise InputError(
            'MINE_LAYER = "bank" mines from banked keys: set NEIGHBOR_KEYS = "bank" with it.'
        )
    _check_sizes(model, source, global_batch_size, strategy)
    anchors = num_steps * global_batch_size
    peak_learning_rate = optim.scale_learning_rate(learning_rate_per_256_images, global_batch_size)

    text = settings()
    workers.check_same_settings(strategy, f"{text}\n{source.fingerprint}")

    with workers.own_directory(strategy, run_directory) as own_directory:
        own_directory.claim(text, source)
        checkpoints = checkpoint.RunCheckpoint(
            own_directory.checkpoints, model, table, read_from=run_directory.checkpoints
        )
        progress = checkpoints.load(workers.share_number(strategy, checkpoints.find_newest))
        own_directory.drop_metrics_after(progress.epoch)
        if progress.epoch >= epochs:
            logging.info("%s is finished: %d epochs are done.", run_directory.path, epochs)
            return model
        if progress == Progress() and initialize is not None:
            with strategy.scope():
                initialize(model)
        if progress != Progress():
            logging.info("Going on from %s after %s.", run_directory.path, progress)
        board = tf.summary.create_file_writer(str(own_directory.tensorboard))

        with StopSignals(functools.partial(workers.largest, strategy)) as stops:
            for epoch in range(progress.epoch, epochs):
                begun = progress if epoch == progress.epoch else Progress(epoch)
                learning_rate = schedule(epoch, epochs, peak_learning_rate)
                row = EpochRow(begun, num_steps, learning_rate)
                if refresh is not None and refresh.is_due(epoch):
                    doing = f"mining the neighbors before epoch {epoch + 1}"
                    with strategy.scope(), stops.ending_at_once(doing):
                        row.update(refresh.refresh(model.key_encoder.encoder, epoch, bank))
                    checkpoints.save(row.progress(step=0))
                due = [monitor for monitor in monitors if monitor.is_due(epoch + 1, epochs)]
                if "loss" not in row:  # It is, where a run was stopped while it measured.
                    model.epoch.assign(epoch)
                    model.optimizer.learning_rate.assign(learning_rate)
                    dataset = _make_dataset(
                        *(strategy, source, augmentations, global_batch_size, seed, epoch, table),
                        first_step=begun.step,
                        augment_on=augment_on,
                        pairs=model.pairs,
                        with_indices=bank is not None,
                    )
                    bar = TrainingBar(
                        *(epochs, num_steps, global_batch_size, begun.step, begun.timed)
                    )
                    guard = LossGuard(epoch, begun.step, learning_rate, checkpoints)
                    saver = MidEpoch(
                        *(begun, row, num_steps, save_every, guard, bar, checkpoints, stops)
                    )
                    row.update(
                        _fit(model, dataset, num_steps - begun.step, epoch, guard, bar, saver)
                    )
                    units = forward_units.per_image(model, augmentations)
                    row.update({"anchors": anchors, "forward_units": anchors * units})
                    model.average_moving_statistics()
                    workers.check_same_state(strategy, model.shared_state, table)
                    if due:
                        checkpoints.save(row.progress(num_steps))
                for monitor in due:
                    doing = f"measuring after epoch {epoch + 1}"
                    with strategy.scope(), stops.ending_at_once(doing):
                        row.update(monitor.measure(model.query_encoder))
                _report(own_directory, board, row.read(), epochs)
                checkpoints.save(Progress(epoch + 1))
                stops.check(f"after epoch {epoch + 1}")
    return model


def choose_augmentations(model, augmentation, small_augmentation):
    """{name of each view that the model takes: its `ViewAugmentation`}.

    Raises:
        InputError: if the model takes small views and `small_augmentation` is None.
    """
    if model.small_view_names and small_augmentation is None:
        raise InputError(
            "The recipe trains on small views and does not say how to make them: include "
            '"base/multicrop.gin", or set NUM_SMALL_VIEWS = 0.'
        )
    return {
        name: small_augmentation if name in model.small_view_names else augmentation
        for name in model.view_names
    }


def _check_numbers(source, epochs, global_batch_size, checkpoint_every_steps):
    for knob, value, least in (
        ("EPOCHS", epochs, 1),
        ("GLOBAL_BATCH_SIZE", global_batch_size, 1),
        ("CHECKPOINT_EVERY_STEPS", checkpoint_every_steps, 0),
    ):
        if not isinstance(value, int) or value < least:
            raise InputError(f"{knob} must be a whole number from {least}, got {value!r}.")
    if len(source) < 2:
        raise InputError(
            f"{source.name} has {len(source)} image, and training tells images from each other: "
            "give it a folder with hundreds."
        )


def _check_sizes(model, source, global_batch_size, strategy):
    replicas = strategy.num_replicas_in_sync
    parts = replicas * model.accumulation_steps
    if global_batch_size % parts:
        raise InputError(
            f"A batch of {global_batch_size} images cannot be spread evenly over {replicas} "
            f"replicas with {model.accumulation_steps} accumulation steps each: choose "
            f"GLOBAL_BATCH_SIZE as a multiple of {parts}."
        )
    if model.pairs and global_batch_size // replicas % 2:
        raise InputError(
            f"A batch of {global_batch_size} images does not give each of {replicas} replica(s) "
            f"whole pairs: choose GLOBAL_BATCH_SIZE as a multiple of {2 * replicas}."
        )
    groups = model.query_encoder.bn_groups
    if global_batch_size % groups:
        raise InputError(
            f"A batch of {global_batch_size} images cannot be split into {groups} equal batch "
            f"norm groups: choose GLOBAL_BATCH_SIZE as a multiple of {groups}."
        )
    if model.num_negatives <= global_batch_size:
        raise InputError(
            f"The queue of {model.num_negatives} keys is not larger than the batch of "
            f"{global_batch_size}, so a key would be gone before it serves: raise NUM_NEGATIVES "
            "or lower GLOBAL_BATCH_SIZE."
        )
    if model.num_negatives > len(source):
        logging.warning(
            "The queue of %d keys is larger than %s with its %d images, so it holds older keys "
            "of the same images as negatives: try NUM_NEGATIVES = %d.",
            model.num_negatives,
            source.name,
            len(source),
            max(len(source) // 4, global_batch_size + 1),
        )


def _make_dataset(strategy, source, augmentations, global_batch_size, *others, **options):
    """`pipeline.make_epoch`, in which each worker makes the images of its own replicas only."""
    replicas = strategy.num_replicas_in_sync

    def make_own(context):
        num_workers = context.num_input_pipelines
        dataset = pipeline.make_epoch(
            *(source, augmentations, global_batch_size, *others),
            part=context.input_pipeline_id,
            num_parts=num_workers,
            **options,
        )
        if replicas == num_workers:
            return dataset
        return parallel.prefetch(dataset.rebatch(global_batch_size // replicas))

    if replicas == 1:
        return make_own(tf.distribute.InputContext())
    return strategy.distribute_datasets_from_function(make_own)


def _fit(model, dataset, num_steps, epoch, guard, bar, saver):
    """The steps of an epoch, or those that are left: {name: mean over the whole epoch}."""
    with contextlib.closing(bar):
        # The saver comes last, because it may end the run.
        model.fit(
            dataset,
            steps_per_epoch=num_steps,
            initial_epoch=epoch,
            epochs=epoch + 1,
            callbacks=[guard, bar, saver],
            verbose=0,
        )
    guard.check()
    return {
        **model.mean_losses,
        "images_per_sec": bar.images_per_sec,
        "input_wait_fraction": bar.input_wait_fraction,
    }


def _report(run_directory, board, row, epochs):
    """One epoch's figures, to metrics.jsonl, to TensorBoard and to the log."""
    run_directory.append_metrics(row)
    with board.as_default(step=row["epoch"]):
        for name, value in row.items():
            if isinstance(value, (int, float, np.floating)):
                tf.summary.scalar(name, value)
    board.flush()
    accuracies = ["knn_top1", "linear_top1"]
    shown = ["loss", *accuracies, "neighbor_purity", "neighbor_churn", "images_per_sec"]
    figures = ", ".join(f"{name} {row[name]:.4g}" for name in shown if row.get(name) is not None)
    logging.info("epoch %d/%d: %s", row["epoch"], epochs, figures)
