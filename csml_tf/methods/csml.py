"""CsMl: the training step, with cross-image positives at several depths of the network."""

from __future__ import annotations

from typing import Callable

import tensorflow as tf

from csml_tf import draws
from csml_tf.methods import batch_size, method, passes, running_means
from csml_tf.methods.cross_samples import CrossSamples
from csml_tf.methods.moco import MoCo
from csml_tf.methods.stepwise_model import StepwiseModel
from csml_tf.models import cross_replica, split_batch_norm

# Folded into the seed of a step, so that no two draws of a step share one.
_BOX_STREAM = 0
_TARGET_STREAM = 1


class CsMl(StepwiseModel):
    """Trains a query encoder by a base method, with positives from other images.

    Every level of the encoder gets the loss that `CrossSamples` describes, and

        loss = sum over levels of level_weights[level] * loss_level

    Under a strategy the loss is that of the global batch: every replica adds its share,
    draws are those of the whole batch, and the groups of batch norm are groups of the global
    batch. So the same batch gives the same step on one replica or many, but for rounding.

    It is a Keras model: compile it with an optimizer and fit it on a `tf.data.Dataset` of
    {view name: [batch, height, width, 3] normalized images}; `method.TrainingModel` says what
    else it offers.

    Args:
        make_base: function of `seed` that returns a `method.Method`, such as `MoCo`.
        cross_samples: which queries and positives; None for `CrossSamples()`.
        level_weights: {level: weight of its loss}; None weighs every level by 1.
        photometric: function of (view name, crops, uniforms) that makes images of a view
            whose colors the input pipeline left to the device; None where it makes
            finished images.
        accumulation_steps: as for `passes.Passes`.
        seed: int; with the step it decides every draw inside the step.
        **kwargs: as for `tf.keras.Model`.

    Raises:
        ValueError: if an argument is outside the above, or batch norm's groups do not
            fall on replicas and parts as whole groups.
        TypeError: if the base method lacks a hook.
    """

    def __init__(
        self,
        make_base: Callable[..., method.Method] = MoCo,
        cross_samples: CrossSamples | None = None,
        level_weights: dict[str, float] | None = None,
        photometric: Callable | None = None,
        accumulation_steps: int = 1,
        seed: int = 0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if accumulation_steps < 1:
            raise ValueError(f"accumulation_steps must be at least 1, got {accumulation_steps}.")
        self.base = make_base(seed=seed)
        method.check_hooks(self.base)
        for each in self.base.encoders.values():
            each.divide_batch(cross_replica.num_replicas(), accumulation_steps)
        for layer in self.base.extra_layers.values():
            split_batch_norm.divide_batch(layer, cross_replica.num_replicas() * accumulation_steps)
        self.cross_samples = cross_samples or CrossSamples()
        self.level_weights = _check_level_weights(level_weights, self.encoder.levels)
        self.photometric = photometric
        self.accumulation_steps = accumulation_steps
        self.seed = seed
        self.passes = passes.Passes(
            self.base, self.cross_samples, self.level_weights, accumulation_steps
        )
        # The loss and its parts, over the steps of an epoch.
        kinds = self.cross_samples.kinds(self.base.both_views_are_queries)
        missing = set(self.cross_samples.kinds_of_targets()) - set(kinds)
        if self.base.queries_are_targets and missing:
            raise ValueError(
                f"{type(self.base).__name__} compares queries with each other, and the query kinds "
                f'lack {", ".join(sorted(missing))}: add "neighbor" to query_kinds, or set '
                "positive_weights = (1.0, 0.0)."
            )
        parts = [_part(level, kind) for level in self.encoder.levels for kind in kinds]
        self.means = running_means.RunningMeans(["loss", *parts])
        self.built = True

    def train_step(self, views, kinds=None):
        """One step, in the order of the paper's code.

        Args:
            views: {name in `view_names`: [batch, height, width, 3] normalized images}, or
                {name: arguments of `photometric` after the name} where there is one.
            kinds: of queries to train; None for `kinds_in_use`, which a graph cannot ask for.

        Returns:
            {name: mean over the epoch so far, over all replicas} of the loss and its parts.
        """
        kinds = self.kinds_in_use if kinds is None else kinds
        step = self.optimizer.iterations
        views = self._finish_images(views)
        self.base.before_step(self._progress(step), self.epoch)
        targets = self._make_targets(views, step)
        queries = self.make_queries(views, step, kinds)
        gradients, losses = self.passes.run(queries, targets)
        self.optimizer.apply_gradients(zip(gradients, self.base.trained_variables))
        self.base.after_step(targets)
        return self._parts_in_use(self.means.update(self._parts(losses, kinds)), kinds)

    def make_queries(self, views, step, kinds):
        """{kind: `cross_samples.Query`} of a step, for finished images."""
        seed = self._seed_of(step, _BOX_STREAM)
        both_views = self.base.both_views_are_queries
        return self.cross_samples.queries(views, kinds, self.epoch, seed, both_views)

    def call(self, images, training=None):
        """[batch, height, width, 3] -> {level: [batch, dim]} by the query encoder."""
        return self.encoder(images, training=training)

    @property
    def encoder(self):
        """The query encoder, which is exported."""
        return self.base.query_encoder

    @property
    def kinds_in_use(self):
        """The kinds of queries that this epoch trains; what waits costs nothing."""
        # The device is asked for the epoch only where that makes a difference.
        epoch = int(self.epoch.numpy()) if self.cross_samples.cutmix_warmup_epochs else 0
        return self.cross_samples.kinds_in_use(epoch, self.base.both_views_are_queries)

    @property
    def mean_losses(self):
        """{name: float mean over the epoch so far} of the loss and its parts in use."""
        return self._parts_in_use(self.means.result(), self.kinds_in_use)

    @property
    def view_names(self):
        """Names of the views that `train_step` takes."""
        return self.cross_samples.view_names

    @property
    def trainable_weights(self):
        """Those of the base method: a key encoder is never trained by gradient."""
        return self.base.trained_variables

    def check(self, global_batch_size, num_images, data_name):
        """Raises `InputError` if the batch cannot be divided as replicas and groups want it."""
        replicas = self.distribute_strategy.num_replicas_in_sync
        parts = (self.base, self.cross_samples, replicas, self.accumulation_steps)
        batch_size.check(global_batch_size, *parts)
        self.base.check(global_batch_size, num_images, data_name)

    def _prepare(self, optimizer, jit_compile):
        """What `compile` leaves to us; `passes.function_maker` says what it raises."""
        make_function = passes.function_maker(self.encoder, jit_compile)
        self.base.prepare(make_function, self.accumulation_steps)
        self.passes.prepare(make_function, optimizer)

    def _finish_images(self, views):
        """Colors that were left to the device."""
        if self.photometric is None:
            return views
        return {name: self.photometric(name, *views[name]) for name in self.view_names}

    def _make_targets(self, views, step):
        """{level: [global batch, columns, dim]}; {} where queries are each other's targets."""
        if self.base.queries_are_targets:
            return {}
        names = self.cross_samples.target_views(self.base.both_views_are_queries)
        own_views = {name: views[name] for name in names}
        targets = self.base.targets(own_views, self._seed_of(step, _TARGET_STREAM))
        return self.cross_samples.with_partners(targets)

    def _progress(self, step):
        steps = tf.maximum(self.steps_of_run, 1)
        return tf.minimum(tf.cast(step, tf.float32) / tf.cast(steps, tf.float32), 1.0)

    def _seed_of(self, step, stream):
        return draws.fold_in([self.seed, self.seed], step, stream)

    def _parts(self, losses, kinds):
        shares = self.cross_samples.shares(kinds, self.base.both_views_are_queries)
        values = dict.fromkeys(self.means.names, 0.0)
        for kind, of_kind in losses.items():
            for level, value in of_kind.items():
                values[_part(level, kind)] += value
                values["loss"] += self.level_weights[level] * value * shares[kind]
        return values

    def _parts_in_use(self, values, kinds):
        parts = {_part(level, kind) for level in self.encoder.levels for kind in kinds}
        return {name: value for name, value in values.items() if name in {"loss", *parts}}


def _part(level, kind):
    """Name of a part of the loss, in logs and metrics."""
    return f"loss_{level}_{kind}"


def _check_level_weights(level_weights, levels):
    """{level: weight}, 1 for each where None is given."""
    if level_weights is None:
        return {level: 1.0 for level in levels}
    if set(level_weights) != set(levels):
        raise ValueError(
            f"level_weights must name the encoder's levels {list(levels)}, "
            f"got {sorted(level_weights)}."
        )
    return dict(level_weights)
