"""A recipe's parts, and the model, optimizer and input that they make together."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, Callable

import tensorflow as tf

from csml_tf import value_rules
from csml_tf.augment.view import ViewAugmentation
from csml_tf.data import parallel, pipeline
from csml_tf.data.neighbor_table import NeighborTable
from csml_tf.data.sources.base import ImageSource
from csml_tf.errors import InputError
from csml_tf.methods.method import TrainingModel
from csml_tf.models.backbones import contract
from csml_tf.training import optim, strategies
from csml_tf.training import precision as precisions
from csml_tf.training.addons import StochasticAverage
from csml_tf.training.neighbor_refresh import NeighborRefresh


@dataclasses.dataclass(frozen=True)
class Parts:
    """What a recipe says of a run; in gin its name is `pretrain`.

    Attributes:
        make_model: function of `seed` and `photometric` that returns a `TrainingModel`.
        augmentation: of every view that has none of its own.
        epochs: of the whole run.
        global_batch_size: anchors per step, over all replicas; in pairs images, half of them
            drawn as anchors.
        key_augmentation: of the second view, whose colors some methods change in another way;
            None for `augmentation`.
        small_augmentation: of small views; needed if the model takes any.
        make_optimizer: function of no arguments that returns a Keras optimizer.
        schedule: function of (epoch, epochs, peak_learning_rate) to a learning rate.
        make_neighbor_refresh: function of (source, center_view) that returns a
            `NeighborRefresh`; needed if the model uses neighbors.
        callbacks: Keras callbacks, or functions of no arguments that make one.
        augment_on: "host" or "device": where colors, blur and normalization are done;
            crops always on the host.
        precision: of the encoders' computations, one of `precisions.NAMES`.
        jit_compile: whether XLA compiles the training step.
        learning_rate_per_256_images: peak rate for a batch of 256; the rate of the
            run follows the linear rule.
        checkpoint_every_steps: steps of an epoch between two checkpoints; 0 or None for
            none inside an epoch. Changes no result.
        seed: int; decides weights, order, draws.
    """

    make_model: Callable[..., Any]
    augmentation: ViewAugmentation
    epochs: int
    global_batch_size: int
    key_augmentation: ViewAugmentation | None = None
    small_augmentation: ViewAugmentation | None = None
    make_optimizer: Callable[[], Any] = optim.TorchSGD
    schedule: Callable[[int, int, float], float] = optim.cosine_schedule
    make_neighbor_refresh: Callable[..., NeighborRefresh] | None = None
    callbacks: Sequence[Any] = ()
    augment_on: str = "host"
    precision: str = "float32"
    jit_compile: bool = False
    learning_rate_per_256_images: float = 0.03
    checkpoint_every_steps: int | None = 1000
    seed: int = 0

    def check(self, source: ImageSource) -> None:
        """Raises `InputError` if a number is out of range, or there are too few images."""
        # A recipe's knobs have been checked, but for those that a function gives their values.
        for knob, value, rule in (
            ("EPOCHS", self.epochs, value_rules.whole(1)),
            ("GLOBAL_BATCH_SIZE", self.global_batch_size, value_rules.whole(1)),
            ("CHECKPOINT_EVERY_STEPS", self.checkpoint_every_steps or 0, value_rules.whole(0)),
            ("AUGMENT_ON", self.augment_on, value_rules.one_of(pipeline.AUGMENT_ON)),
        ):
            value_rules.check(knob, value, rule)
        if len(source) < 2:
            raise InputError(
                f"{source.name} has {len(source)} image, and training tells images from each "
                "other: give it a folder with hundreds."
            )


@dataclasses.dataclass(frozen=True)
class Assembly:
    """What a run trains, and on what.

    Attributes:
        parts: `Parts` that it was made of.
        source: of the training images.
        strategy: `tf.distribute.Strategy`.
        model: compiled.
        augmentations: {view name: `ViewAugmentation`}, of all views that the model takes.
        refresh: `NeighborRefresh`, or None where the model uses no neighbors.
        num_steps: of an epoch.
        center_view: `augment.center_view.CenterView`, of mining and of what measures.
    """

    parts: Parts
    source: ImageSource
    strategy: tf.distribute.Strategy
    model: TrainingModel
    augmentations: dict[str, ViewAugmentation]
    refresh: NeighborRefresh | None
    num_steps: int
    center_view: Any

    @property
    def table(self) -> NeighborTable | None:
        """The neighbor table, or None."""
        return None if self.refresh is None else self.refresh.table

    def learning_rate(self, epoch: int) -> float:
        """Of an epoch, from 0."""
        parts = self.parts
        peak = optim.scale_learning_rate(
            parts.learning_rate_per_256_images, parts.global_batch_size
        )
        return parts.schedule(epoch, parts.epochs, peak)

    def make_batches(self, epoch: int, first_step: int):
        """The batches of an epoch from a step on; each worker makes those of its replicas."""
        replicas = self.strategy.num_replicas_in_sync
        parts = self.parts
        pairs = self.model.cross_samples.draws_pairs(epoch)

        def make_own(context):
            num_workers = context.num_input_pipelines
            make = self._make_part(context.input_pipeline_id, num_workers, pairs)
            batches = make(epoch, first_step)
            if replicas == num_workers:
                return batches
            return parallel.prefetch(batches.rebatch(parts.global_batch_size // replicas))

        if replicas == 1:
            return make_own(tf.distribute.InputContext())
        return self.strategy.distribute_datasets_from_function(make_own)

    @functools.cached_property
    def _make_part(self):
        """Function of (part, parts, whether in pairs) to what makes any epoch's batches."""
        parts = self.parts
        return functools.cache(
            lambda part, num_parts, pairs: pipeline.make_epochs(
                *(self.source, self.augmentations, parts.global_batch_size, parts.seed),
                table=self.table,
                augment_on=parts.augment_on,
                part=part,
                num_parts=num_parts,
                pairs=pairs,
            )
        )


# Keras takes its own layers for a user's, and would let AutoGraph read through the code of each.
@tf.autograph.experimental.do_not_convert
def assemble(
    parts: Parts, source: ImageSource, strategy: tf.distribute.Strategy, center_view
) -> Assembly:
    """Makes model, optimizer and input of a run, and sees that they fit each other.

    Args:
        parts: the recipe's.
        source: of the training images.
        strategy: of the run.
        center_view: `augment.center_view.CenterView`, for mining.

    Raises:
        InputError: if source, batch, views and recipe do not fit each other.
    """
    parts.check(source)
    num_steps = pipeline.steps_per_epoch(source, parts.global_batch_size)
    tf.keras.utils.set_random_seed(parts.seed)
    augmentations: dict[str, ViewAugmentation] = {}

    on_accelerator = not strategies.uses_cpus(strategy)

    def photometric(view_name, crops, uniforms):
        return augmentations[view_name].photometric(crops, uniforms, on_accelerator)

    with strategy.scope(), precisions.policy(parts.precision):
        model = parts.make_model(
            seed=parts.seed, photometric=photometric if parts.augment_on == "device" else None
        )
        optimizer = parts.make_optimizer()
        if isinstance(optimizer, StochasticAverage):
            optimizer.plan(num_steps, parts.epochs)
        optimizer = precisions.scale_loss(optimizer, parts.precision)
        model.compile(optimizer, jit_compile=parts.jit_compile)
        model.steps_of_run.assign(parts.epochs * num_steps)
    contract.check(model.encoder, model.base.takes_unit_vectors)
    augmentations.update(_choose_augmentations(model, parts))
    refresh = None
    if model.cross_samples.uses_neighbors:
        if parts.make_neighbor_refresh is None:
            raise InputError(
                "The recipe uses neighbors and does not say how to mine them: set "
                "pretrain.make_neighbor_refresh = @NeighborRefresh."
            )
        refresh = parts.make_neighbor_refresh(source, center_view)
    model.check(parts.global_batch_size, len(source), source.name)
    return Assembly(
        *(parts, source, strategy, model, augmentations, refresh, num_steps, center_view)
    )


def _choose_augmentations(model, parts):
    small = model.cross_samples.small_view_names
    if small and parts.small_augmentation is None:
        raise InputError(
            "The recipe trains on small views and does not say how to make them: include "
            '"base/multicrop.gin", or set NUM_SMALL_VIEWS = 0.'
        )
    augmentations = dict.fromkeys(model.cross_samples.view_names, parts.augmentation)
    if parts.key_augmentation is not None:
        of_keys = [name for name in augmentations if name in ("key", "neighbor_key")]
        augmentations.update(dict.fromkeys(of_keys, parts.key_augmentation))
    return {**augmentations, **dict.fromkeys(small, parts.small_augmentation)}
