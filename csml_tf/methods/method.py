"""What a base method brings, and what a run asks of the model: read this to add a method."""

from __future__ import annotations

from typing import Any, Callable, NamedTuple, Protocol

import tensorflow as tf

from csml_tf.methods.cross_samples import CrossSamples
from csml_tf.models.encoder import MultiLevelEncoder

Views = dict[str, Any]  # {view name: [batch, height, width, 3] normalized images}.
Levels = dict[str, tf.Tensor]  # {level: a tensor of its embeddings, keys or losses}.


class InBatch(NamedTuple):
    """The other images of the step, for methods whose negatives they are.

    Attributes:
        targets: {level: [global batch, columns, dim]}, the targets of all replicas.
        anchor_columns: those of `targets` that are of the anchors' own views, never of their
            neighbors': one, or in a symmetric method two.
        is_stranger: [n, global batch] bool: which images of the batch are neither the query's
            own nor, in pairs, its neighbor.
    """

    targets: Levels
    anchor_columns: tuple[int, ...]
    is_stranger: tf.Tensor


class Method(tf.Module):
    """A base method: what the queries of a step are compared with, and by which loss.

    To add one, write a file with a subclass and a recipe that sets `CsMl.make_base`; `moco.py`
    is the example. In each step `csml.CsMl` calls, in this order,

        before_step(progress, epoch)                e.g. the key encoder follows
        targets(views, seed)                        {level: [global batch, columns, dim]}
        loss(queries, positives, weights, in_batch) {level: [n]}, once per kind of query
        after_step(targets)                         e.g. the keys enter a queue

    and brings the rest: neighbors, CutMix, levels, gradients, accumulation, replicas, precision,
    checkpoints. `targets` gets the views that positives are made of and returns a column for
    each. A query is pulled towards the columns by its row of `weights`, [n, columns], in which
    columns that are no positives of it have 0; so several weighted positives are all that a loss
    needs to know of CsMl.

    Set in `__init__`, which gets `seed`:
        query_encoder: `MultiLevelEncoder`; trained by gradient, exported.
        encoders: {name: `MultiLevelEncoder`}, every one that there is, "query" among them. Their
            weights have to be the same on all replicas, and batch norm sees parts of the batch.

    Class attributes:
        both_views_are_queries: True for a symmetric method, in which each of an image's two
            views is a query against the other's target. The columns are then those of
            "key", its neighbor's, "query", its neighbor's; else of "key" and its neighbor's.
        queries_are_targets: True where the targets are made of the queries' own embeddings
            (SimCLR, SwAV). All queries are then embedded first; `targets_of_queries` is called
            instead of `targets`, and `loss` before any backward pass.
        needs_strangers: True where an image is compared with the others of its batch.
        takes_unit_vectors: False where the loss itself divides embeddings by their length, so
            that heads need not.
        units_of_a_target, units_of_a_query: cost in forward passes of one view.
    """

    both_views_are_queries = False
    queries_are_targets = False
    needs_strangers = False
    takes_unit_vectors = True
    units_of_a_target = 1
    units_of_a_query = 3  # A backward pass takes about twice as much as its forward pass.

    query_encoder: MultiLevelEncoder
    encoders: dict[str, MultiLevelEncoder]

    # What a method has to bring.

    def targets(self, views: Views, seed: tf.Tensor) -> Levels:
        """What this step's queries are compared with, cut off from the gradient.

        Args:
            views: of this replica, {view name: [batch, height, width, 3]}, in column order.
            seed: [2] integer, of this step and alike on all replicas.

        Returns:
            {level: [global batch, len(views), dim]}, of all replicas and alike on each.
        """
        raise NotImplementedError

    def loss(
        self, queries: Levels, positives: Levels, weights: tf.Tensor, in_batch: InBatch
    ) -> Levels:
        """The loss of each query of one kind, at each level.

        Args:
            queries: {level: [n, dim]} embeddings by the query encoder.
            positives: {level: [n, columns, dim]}, the targets of the queries' own images.
            weights: [n, columns] float, at least 0: how much each column counts as a positive.
            in_batch: the targets of all images of the step, for methods without a queue.

        Returns:
            {level: [n] float}, not reduced.
        """
        raise NotImplementedError

    # What a method may bring.

    def targets_of_queries(self, embeddings: Levels) -> Levels:
        """The targets, where they are made of the queries' own embeddings.

        Args:
            embeddings: {level: [global batch, columns, dim]}; a gradient that is not stopped
                flows back through them.

        Returns:
            {level: [global batch, columns, dim]}.
        """
        return embeddings

    def before_step(self, progress: tf.Tensor, epoch: tf.Tensor) -> None:
        """Called first.

        Args:
            progress: scalar in [0, 1), the share of the run that is done.
            epoch: scalar int64 from 0.
        """

    def after_step(self, targets: Levels) -> None:
        """Called last, when the gradients are applied."""

    def prepare(self, make_function: Callable, accumulation_steps: int) -> None:
        """Called when the model is compiled.

        Args:
            make_function: makes of a pass through an encoder what is traced, and compiled where
                that was asked for, once.
            accumulation_steps: equal parts in which each replica takes its share of a batch.
        """
        if self.queries_are_targets and accumulation_steps > 1:
            # The parts are embedded once more on the way back.
            self.units_of_a_query = type(self).units_of_a_query + 1

    def check(self, global_batch_size: int, num_images: int, data_name: str) -> None:
        """Raises `InputError` if it cannot train on such batches of such data; may warn."""

    def start_from(self, state: Any, has_head: bool) -> dict[str, bool]:
        """Called in a new run when the query encoder has been given trained weights.

        Args:
            state: `TrainingState`, what was saved beside the encoder.
            has_head: whether the head of the last level was given its weights too.

        Returns:
            {part: whether it was taken from `state`}, for the log.
        """
        return {}

    @property
    def recent_embeddings(self) -> Levels:
        """{level: [n, dim]} unit vectors of images seen lately, for the figures of a run's health.

        A method that keeps none has {}; some images are then embedded anew.
        """
        return {}

    @property
    def chance_loss(self) -> float | None:
        """A level's loss, in nats, where nothing is told from anything; None for not known."""
        return None

    @property
    def trained_variables(self) -> list[tf.Variable]:
        """Those that the optimizer moves: the query encoder's, then those of `extra_layers`."""
        extra = [v for layer in self.extra_layers.values() for v in layer.trainable_variables]
        return self.query_encoder.trainable_variables + extra

    @property
    def extra_layers(self) -> dict[str, tf.keras.layers.Layer]:
        """{name: layer} of what is trained beside the query encoder, such as predictors."""
        return {}

    @property
    def shared_variables(self) -> dict[str, tf.Variable]:
        """{name: variable} that all replicas have to hold alike, beside the encoders' weights."""
        return {}

    @property
    def shared_state(self) -> dict[str, tf.Variable]:
        """{name: variable} of what all replicas have to hold alike, bit for bit."""
        weights = {  # With a number, since those of two heads have the same names.
            f"{variable.name} (number {number}) of the {name} encoder": variable
            for name, each in self.encoders.items()
            for number, variable in enumerate(each.trainable_variables, start=1)
        }
        extra = {
            f"{variable.name} (number {number}) of {name}": variable
            for name, layer in self.extra_layers.items()
            for number, variable in enumerate(layer.trainable_variables, start=1)
        }
        return {**self.shared_variables, **weights, **extra}

    def average_moving_statistics(self, strategy: tf.distribute.Strategy) -> None:
        """Gives all replicas the mean of batch norm's moving statistics.

        In training each replica moves them by its own images; a replica uses its own copy in
        inference, so this comes before inference on several. Called outside of a step.
        """

        @tf.function(autograph=False)
        def average():
            for each in self.encoders.values():
                for variable in each.non_trainable_variables:
                    variable.assign(variable.read_value())  # To read is to take the mean.

        if strategy.num_replicas_in_sync > 1:
            with strategy.scope():
                average()

    @property
    def mining_encoder(self) -> MultiLevelEncoder:
        """The encoder whose features tell neighbors from strangers."""
        return self.query_encoder


class TrainingModel(Protocol):
    """What a run, its reports and the zoo read of the model in training, and nothing else.

    It is a `tf.keras.Model`, besides, compiled and fitted as any other. `csml.CsMl` is one, of
    any base method.

    Attributes:
        base: the `Method`.
        cross_samples: the `CrossSamples`: names of the views, when neighbors count, pairs.
        encoder: what is exported: the query encoder.
        accumulation_steps: equal parts in which a replica takes its share of a batch.
        epoch: from 0; `fit` assigns it.
        steps_of_run: how many the whole run has; 0 for not known.
        kinds_in_use: kinds of queries that the present epoch trains.
        mean_losses: {name: mean over the epoch by now} of the loss and its parts in use.
        means: the state behind `mean_losses`.
        input_wait_s: seconds that `fit` has waited for batches.
    """

    base: Method
    cross_samples: CrossSamples
    accumulation_steps: int
    epoch: tf.Variable
    steps_of_run: tf.Variable
    means: tf.Module
    input_wait_s: float
    optimizer: Any
    fit: Callable[..., Any]

    @property
    def encoder(self) -> MultiLevelEncoder: ...

    @property
    def kinds_in_use(self) -> tuple[str, ...]: ...

    @property
    def mean_losses(self) -> dict[str, float]: ...

    def check(self, global_batch_size: int, num_images: int, data_name: str) -> None:
        """Raises `InputError` if the batch or the data cannot be trained on."""

    def make_queries(self, views: Views, step: tf.Tensor, kinds: tuple[str, ...]) -> dict:
        """{kind: `cross_samples.Query`} of a step, by its number from 0."""


_HOOKS = ("targets", "loss")


def check_hooks(base: Method) -> None:
    """Finds what a new method has forgotten, before the first step.

    Raises:
        TypeError: if `base` lacks a hook or an attribute; names it.
    """
    name = type(base).__name__
    needed = [hook for hook in _HOOKS if hook == "loss" or not base.queries_are_targets]
    missing = [hook for hook in needed if getattr(type(base), hook, None) is getattr(Method, hook)]
    missing += [held for held in ("query_encoder", "encoders") if not hasattr(base, held)]
    if missing:
        raise TypeError(
            f"{name} has no {' and no '.join(missing)}, which csml_tf/methods/method.py asks of "
            "every method: add it there."
        )
