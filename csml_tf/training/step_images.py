"""The images of one step of a run, as the model gets them; nothing is trained."""

import dataclasses
from typing import Optional

import numpy as np
import tensorflow as tf

from csml_tf.augment import view
from csml_tf.data import originals, pipeline
from csml_tf.data.sources import memory
from csml_tf.errors import InputError
from csml_tf.methods.cross_samples import ANCHOR_VIEWS, NEIGHBOR_VIEWS
from csml_tf.training import assembly, checkpoint


@dataclasses.dataclass(frozen=True)
class AnchorImages:
    """What one anchor contributes to a step.

    Attributes:
        anchor: `Original`, with the windows of its views.
        neighbor: `Original` of the neighbor drawn, likewise; None where the model uses none.
        views: {view name: [size, size, 3] float32 in [0, 1]}, the normalization undone.
        mixed: [size, size, 3] float32 in [0, 1], the CutMix of the query and the
            neighbor's; None where the model trains on none.
        area_fraction: share of the query in `mixed`, in [0, 1]; None without it.
    """

    anchor: originals.Original
    neighbor: Optional[originals.Original]
    views: dict
    mixed: Optional[np.ndarray]
    area_fraction: Optional[float]


@dataclasses.dataclass(frozen=True)
class StepImages:
    """The first anchors of a step.

    Attributes:
        anchors: list of `AnchorImages`.
        epoch: int from 0.
        step: of the epoch, from 0.
        num_steps: of the epoch.
        mined_at_epoch: epoch from 0 before which the neighbors were mined; None where the
            model uses none, -1 where none are mined yet and random images stand in.
        neighbors_are_positives: whether the loss counts the neighbors' keys by then.
    """

    anchors: list
    epoch: int
    step: int
    num_steps: int
    mined_at_epoch: Optional[int]
    neighbors_are_positives: bool

    def describe(self):
        """Which step it is, and where its neighbors come from, in a line."""
        text = f"epoch {self.epoch + 1}, step {self.step + 1} of {self.num_steps}"
        if self.mined_at_epoch is None:
            return text
        if self.mined_at_epoch < 0:
            return f"{text}; neighbors not mined yet, random images in their place"
        text += f"; neighbors mined before epoch {self.mined_at_epoch + 1}"
        return text if self.neighbors_are_positives else f"{text}, not positives yet"


def collect(source, center_view, parts, checkpoints=None, step=0, num_anchors=8):
    """Makes the images of one step again, with the run's own functions and seeds.

    The step is one of the newest epoch that a checkpoint is of, since the neighbors it was
    trained with are known. Without a run it is one of the first epoch, and random images
    stand in for the neighbors.

    Args:
        source: `sources.base.ImageSource` of the training images.
        center_view: `augment.center_view.CenterView`.
        parts: `assembly.Parts` of the run's recipe.
        checkpoints: folder of the run's checkpoints; None before any training.
        step: of the epoch, from 0.
        num_anchors: how many of the batch, from its start.

    Returns:
        `StepImages`.

    Raises:
        InputError: if there is no such step or no checkpoint, or it is of another model or
            another number of images.
    """
    parts = dataclasses.replace(parts, augment_on="host", jit_compile=False)
    strategy = tf.distribute.get_strategy()
    assembled = assembly.assemble(parts, source, strategy, center_view)
    model, table, num_steps = assembled.model, assembled.table, assembled.num_steps
    cross_samples = model.cross_samples
    if not 0 <= step < num_steps:
        raise InputError(f"An epoch has the steps 1 to {num_steps}, got {step + 1}.")
    epoch = 0
    if checkpoints is not None:
        progress = checkpoint.RunCheckpoint(checkpoints, model, table).restore()
        epoch = progress.epoch if progress.has_begun else progress.epoch - 1
        if epoch < 0:
            raise InputError(
                f"There is no checkpoint in {checkpoints} yet: let csml-tf train finish an "
                "epoch, or give the recipe with --gin_file to see it before any training."
            )
    elif table is not None:
        table.assign(_random_neighbors(*table.neighbor_indices.shape, parts.seed), -1)
    model.epoch.assign(epoch)
    pairs = cross_samples.draws_pairs(epoch)
    augmentations = dict(assembled.augmentations)

    def first_batch(epoch_source, epoch_augmentations, augment_on):
        batches = pipeline.make_epoch(
            *(epoch_source, epoch_augmentations, parts.global_batch_size, parts.seed, epoch),
            *(table, step, augment_on),
            pairs=pairs,
        )
        return next(iter(batches.take(1)))

    views = first_batch(source, augmentations, "host")
    # Whom the pipeline draws, and by which numbers, shows in images that say their own index.
    dots = {name: view.ViewAugmentation(image_size=1) for name in augmentations}
    drawn = first_batch(_index_source(len(source)), dots, "device")
    mixed, area_fractions = _mix(model, views, epoch * num_steps + step)
    if pairs:
        views, drawn = _apart(views), _apart(drawn)
        if mixed is not None:
            mixed, area_fractions = mixed[::2], area_fractions[::2]
        for name in NEIGHBOR_VIEWS:
            augmentations[name] = augmentations[name.removeprefix("neighbor_")]

    read = _OriginalReader(source, augmentations, drawn)
    neighbor_names = [name for name in views if name in NEIGHBOR_VIEWS]
    anchors = []
    for i in range(min(num_anchors, len(views["query"]))):
        shown = {name: _unnormalize(views[name][i], augmentations[name]) for name in views}
        anchors.append(
            AnchorImages(
                read.original(i, [name for name in views if name not in neighbor_names]),
                read.original(i, neighbor_names) if neighbor_names else None,
                shown,
                None if mixed is None else _unnormalize(mixed[i], parts.augmentation),
                None if mixed is None else float(area_fractions[i]),
            )
        )
    mined_at_epoch = None if table is None else int(table.mined_at_epoch)
    are_positives = cross_samples.counts_neighbors(epoch)
    return StepImages(anchors, epoch, step, num_steps, mined_at_epoch, are_positives)


def _apart(views):
    """{view name: what the images of pairs have of it} -> as if the neighbors' had own names."""
    rows = {
        "": lambda values: values[::2],
        "neighbor_": lambda values: values[1::2],
    }
    return {
        prefix + name: tf.nest.map_structure(choose, values)
        for prefix, choose in rows.items()
        for name, values in views.items()
        if not prefix or name in ANCHOR_VIEWS
    }


class _OriginalReader:
    """The originals of the first images of a batch, and where their views look."""

    def __init__(self, source, augmentations, drawn):
        self._originals = originals.Originals(source)
        self._augmentations = augmentations
        self._drawn = drawn

    def original(self, i, names):
        """The image that the views `names` of the batch's element `i` were cut from."""
        dot, _ = self._drawn[names[0]]
        index = int(np.dot(dot[i, 0, 0].numpy().astype(np.int64), _INDEX_DIGITS))
        original = self._originals.read(index)
        windows = {}
        for name in names:
            _, uniforms = self._drawn[name]
            window = self._augmentations[name].windows(*original.full_size, uniforms[i])
            windows[name] = window.numpy() * original.scale
        return dataclasses.replace(original, windows=windows)


_INDEX_DIGITS = 256 ** np.arange(3)


def _index_source(num_images):
    """Images of one pixel whose three channels are the image's index, lowest byte first."""
    channels = np.arange(num_images)[:, None] // _INDEX_DIGITS % 256
    return memory.MemorySource(channels.astype(np.uint8)[:, None, None, :], name="indices")


def _random_neighbors(num_images, num_neighbors, seed):
    """[num_images, num_neighbors] indices of other images."""
    rng = np.random.default_rng(seed)
    offsets = rng.integers(1, num_images, [num_images, num_neighbors])
    return (np.arange(num_images)[:, None] + offsets) % num_images


def _mix(model, views, iteration):
    """What the model's step number `iteration` makes of the views: (mixed, area fractions)."""
    if "mixed" not in model.kinds_in_use:
        return None, None
    step = tf.constant(iteration, tf.int64)
    mixed = model.make_queries(views, step, ("mixed",))["mixed"]
    return mixed.images, mixed.weights[:, 0]


def _unnormalize(image, augmentation):
    return np.clip(image.numpy() * augmentation.std + augmentation.mean, 0.0, 1.0)
