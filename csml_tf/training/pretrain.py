"""A pretraining run from start to end: read this to see what happens when."""

import time

import numpy as np
import tensorflow as tf
from absl import logging

from csml_tf.data import pipeline
from csml_tf.errors import InputError
from csml_tf.training import checkpoint, optim, training_bar


def run(
    run_directory,
    source,
    strategy,
    settings,
    monitors=(),
    *,
    make_model,
    make_optimizer=optim.TorchSGD,
    schedule=optim.cosine_schedule,
    make_neighbor_refresh=None,
    augmentation,
    small_augmentation=None,
    augment_on="host",
    center_view,
    epochs,
    global_batch_size,
    learning_rate_per_256_images=0.03,
    seed=0,
):
    """Pretrains an encoder, or goes on with a run that was interrupted.

    Args:
        run_directory: `RunDirectory`.
        source: `sources.base.ImageSource` of the training images.
        strategy: `tf.distribute.Strategy`.
        settings: function of no arguments, called when everything is built, that
            returns the configuration as text, for `RunDirectory.claim`.
        monitors: objects with `is_due(finished_epochs, epochs)` and
            `measure(query_encoder)`, which returns {name: number} for the metrics.
        make_model: function of `seed` and `photometric` that returns a `CsMl`.
        make_optimizer: function of no arguments that returns a Keras optimizer.
        schedule: function of (epoch, epochs, peak_learning_rate) to a learning rate.
        make_neighbor_refresh: function of (source, center_view) that returns a
            `NeighborRefresh`; needed if the model uses neighbours.
        augmentation: `augment.view.ViewAugmentation`.
        small_augmentation: the same for small views; needed if the model takes any.
        augment_on: "host" or "device": where colours, blur and normalisation are done;
            crops always on the host.
        center_view: `augment.center_view.CenterView`.
        epochs: of the whole run.
        global_batch_size: anchors per step, over all replicas.
        learning_rate_per_256_images: peak rate for a batch of 256; the rate of the
            run follows the linear rule.
        seed: int; decides weights, order, draws.

    Returns:
        The trained `CsMl`.

    Raises:
        InputError: if source, batch, queue and recipe do not fit each other, the run
            directory belongs to a run with other settings, the disk is full, or the
            loss is no longer a number.
    """
    _check_numbers(source, epochs, global_batch_size)
    if augment_on not in pipeline.AUGMENT_ON:
        raise InputError(f"AUGMENT_ON must be one of {pipeline.AUGMENT_ON}, got {augment_on!r}.")
    num_steps = pipeline.steps_per_epoch(source, global_batch_size)
    tf.keras.utils.set_random_seed(seed)

    def photometric(view_name, crops, uniforms):
        return augmentations[view_name].photometric(crops, uniforms)

    with strategy.scope():
        model = make_model(seed=seed, photometric=photometric if augment_on == "device" else None)
        model.compile(optimizer=make_optimizer())
    augmentations = choose_augmentations(model, augmentation, small_augmentation)
    refresh = make_neighbor_refresh(source, center_view) if model.uses_neighbors else None
    table = None if refresh is None else refresh.table
    _check_sizes(model, source, global_batch_size, strategy)
    run_directory.claim(settings())

    with strategy.scope():
        checkpoints = checkpoint.RunCheckpoint(run_directory.checkpoints, model, table)
        finished_epochs = checkpoints.restore()
    run_directory.drop_metrics_after(finished_epochs)
    if finished_epochs >= epochs:
        logging.info("%s is finished: %d epochs are done.", run_directory.path, epochs)
        return model
    if finished_epochs:
        logging.info("Going on from %s after epoch %d.", run_directory.path, finished_epochs)

    peak_learning_rate = optim.scale_learning_rate(learning_rate_per_256_images, global_batch_size)
    board = tf.summary.create_file_writer(str(run_directory.tensorboard))
    for epoch in range(finished_epochs, epochs):
        started = time.perf_counter()
        row = {"epoch": epoch + 1, "step": (epoch + 1) * num_steps}
        row["learning_rate"] = schedule(epoch, epochs, peak_learning_rate)
        if refresh is not None and refresh.is_due(epoch):
            row.update(refresh.refresh(model.key_encoder.encoder, epoch))
        model.epoch.assign(epoch)
        model.optimizer.learning_rate.assign(row["learning_rate"])
        dataset = pipeline.make_epoch(
            source, augmentations, global_batch_size, seed, epoch, table, augment_on=augment_on
        )
        bar = training_bar.TrainingBar(epochs, num_steps, global_batch_size)
        history = model.fit(
            dataset, initial_epoch=epoch, epochs=epoch + 1, callbacks=[bar], verbose=0
        )
        row.update({name: values[-1] for name, values in history.history.items()})
        _check_loss(row, run_directory)
        row["images_per_sec"] = bar.images_per_sec
        row["input_wait_fraction"] = bar.input_wait_fraction
        for monitor in monitors:
            if monitor.is_due(epoch + 1, epochs):
                row.update(monitor.measure(model.query_encoder))
        row["seconds"] = time.perf_counter() - started
        _report(run_directory, board, row, epochs)
        checkpoints.save(epoch + 1)
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


def _check_numbers(source, epochs, global_batch_size):
    for knob, value in (("EPOCHS", epochs), ("GLOBAL_BATCH_SIZE", global_batch_size)):
        if not isinstance(value, int) or value < 1:
            raise InputError(f"{knob} must be a whole number from 1, got {value!r}.")
    if len(source) < 2:
        raise InputError(
            f"{source.name} has {len(source)} image, and training tells images from each other: "
            "give it a folder with hundreds."
        )


def _check_sizes(model, source, global_batch_size, strategy):
    replicas = strategy.num_replicas_in_sync
    if replicas > 1:
        raise InputError(
            f"This version trains on one device, and the strategy has {replicas}: "
            "use --strategy=none."
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


def _check_loss(row, run_directory):
    """A run that has diverged ends here, before it overwrites a good checkpoint."""
    if not np.isfinite(row["loss"]):
        raise InputError(
            f"The loss of epoch {row['epoch']} is {row['loss']}: lower LEARNING_RATE and start "
            f"anew with another --model_dir; {run_directory.checkpoints} holds the state before."
        )


def _report(run_directory, board, row, epochs):
    """One epoch's figures, to metrics.jsonl, to TensorBoard and to the log."""
    run_directory.append_metrics(row)
    with board.as_default(step=row["epoch"]):
        for name, value in row.items():
            if isinstance(value, (int, float, np.floating)):
                tf.summary.scalar(name, value)
    board.flush()
    shown = ["loss", "knn_top1", "neighbor_purity", "neighbor_churn", "images_per_sec"]
    figures = ", ".join(f"{name} {row[name]:.4g}" for name in shown if row.get(name) is not None)
    logging.info("epoch %d/%d: %s", row["epoch"], epochs, figures)
