"""What a run is about to do, in lines for its log: images, splits, steps, parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import logging

from csml_tf.data.sources.base import ImageSource
from csml_tf.training.assembly import Assembly

NAMED_CLASSES = 12  # More are counted.
_FEW_STEPS = 10
_SMALL_BATCH = 16  # Smaller ones say little of batch norm's statistics.


def log_data(source: ImageSource, pair: Sequence[ImageSource] | None) -> None:
    """Logs which images the run has, and what its accuracy is measured on.

    Which folders are which splits and what is left out, the data set has said itself.

    Args:
        source: of the training images.
        pair: labelled (train, test) for accuracy, or None.
    """
    logging.info("%s: %s images%s.", source.name, f"{len(source):,}", describe_classes(source))
    if pair is None:
        if source.labels is None:
            logging.info("Accuracy is not measured during training: there are no labels.")
        return
    train, test = (f"{each.name}, {len(each):,} images" for each in pair)
    logging.info("Accuracy: labels of %s; tested on %s. Training sees no label.", train, test)


def describe_classes(source: ImageSource) -> str:
    """Classes by name where they are few, else how many: ", 2 classes: ant, bee"."""
    if source.labels is None:
        return ", no labels"
    numbers = np.unique(source.labels[source.labels >= 0])
    names = source.class_names
    text = f", {len(numbers)} class{'es' if len(numbers) != 1 else ''}"
    if len(numbers) > NAMED_CLASSES or names is None:
        return text
    return f"{text}: {', '.join(names[number] for number in numbers)}"


def log_training(assembled: Assembly) -> None:
    """Logs steps, size of the network and of the run's state; warns of what would be in vain."""
    parts, num_steps, model = assembled.parts, assembled.num_steps, assembled.model
    logging.info(
        "%d epochs of %d steps of %d images on %d device(s): %s steps; batches are whole, and "
        "the %d images left of an epoch come in others.",
        *(parts.epochs, num_steps, parts.global_batch_size),
        *(assembled.strategy.num_replicas_in_sync, f"{parts.epochs * num_steps:,}"),
        len(assembled.source) - num_steps * parts.global_batch_size,
    )
    trained = _size(model.base.trained_variables)
    state = 4 * (_size(model.base.variables) + trained)
    logging.info(
        "%.2f million parameters are trained. Weights, momentum, and what the method keeps take "
        "%.0f MB on each device; the activations, which come on top, are not estimated.",
        *(trained / 1e6, state / 1e6),
    )
    for warning in warnings(assembled):
        logging.warning("%s", warning)


def warnings(assembled: Assembly) -> list[str]:
    """What the settings make useless, a sentence each."""
    parts, cross_samples = assembled.parts, assembled.model.cross_samples
    found = []
    if assembled.num_steps < _FEW_STEPS:
        batch = parts.global_batch_size
        advice = f"lower GLOBAL_BATCH_SIZE, {batch} now" if batch > _SMALL_BATCH else "add images"
        found.append(f"An epoch has {assembled.num_steps} step(s) only: {advice}.")
    counts = any(cross_samples.counts_neighbors(epoch) for epoch in range(parts.epochs))
    if cross_samples.uses_neighbors and cross_samples.positive_weights[1] > 0 and not counts:
        found.append(
            f"Neighbors would never count: they wait {cross_samples.neighbor_warmup_epochs} epochs "
            f"of {parts.epochs}; lower NEIGHBOR_WARMUP_EPOCHS or raise EPOCHS."
        )
    return found


def _size(variables: Sequence[Any]) -> int:
    return sum(int(np.prod(variable.shape)) for variable in variables)
