"""The passes of a step through the query encoder, one kind of query after another."""

from __future__ import annotations

from typing import Callable

import tensorflow as tf

from csml_tf.methods.cross_samples import CrossSamples, Query
from csml_tf.methods.method import InBatch, Levels, Method
from csml_tf.models import cross_replica
from csml_tf.models.encoder import MultiLevelEncoder


class Passes:
    """Losses and gradients of all queries of a step, at the memory of one of its passes.

    Each kind of query, and each part of it where a replica takes its batch in parts, has a
    backward pass of its own that ends before the next one begins: a step holds the activations
    of one.

    Args:
        base: the method whose loss and encoder it is.
        cross_samples: which queries are each other's targets, for a method of such.
        level_weights: {level: weight of its loss}.
        accumulation_steps: equal parts in which a replica takes its share of the batch, one
            after the other. The step stays the same, but for the moving statistics of batch
            norm, which move once per part.
    """

    def __init__(
        self,
        base: Method,
        cross_samples: CrossSamples,
        level_weights: dict[str, float],
        accumulation_steps: int,
    ):
        self._base = base
        self._cross_samples = cross_samples
        self._level_weights = level_weights
        self._steps = accumulation_steps

    def prepare(self, make_function: Callable, optimizer) -> None:
        """Called when the model is compiled; see `method.Method.prepare`."""
        self._optimizer = optimizer
        # Functions of their own are traced once for all kinds of queries.
        self._measure = make_function(self._losses_and_gradients)
        self._embed = make_function(self._embed_queries)
        self._pull_back = make_function(self._gradients_of_embeddings)

    def run(self, queries: dict[str, Query], targets: Levels):
        """Measures the loss of every query of this replica, and adds it up.

        Args:
            queries: {kind: `Query`}, in the order of the passes.
            targets: {level: [global batch, columns, dim]}; not read where the targets are the
                queries' own embeddings.

        Returns:
            This replica's share of the gradients of the whole loss with respect to the
            method's `trained_variables`, unscaled; and {kind: {level: its mean loss}}.
        """
        if self._base.queries_are_targets:
            return self._run_jointly(queries)
        gradients = None
        losses: dict[str, Levels] = {}
        finished = [cross_replica.own_part(columns) for columns in targets.values()]
        own = dict(zip(targets, finished))
        for kind, query in queries.items():
            share = query.share / self._steps
            rows = _rows(query)
            positives = {k: tf.repeat(v, query.per_anchor, axis=0) for k, v in own.items()}
            for images, *others in self._split((query.images, positives, query.weights, rows)):
                with tf.control_dependencies(finished):
                    images = tf.identity(images)
                level_losses, of_part = self._measure(
                    images, *others, query.family_size, targets, share
                )
                of_kind = losses.setdefault(kind, dict.fromkeys(level_losses, 0.0))
                for level, value in level_losses.items():
                    of_kind[level] += value / self._steps
                if gradients is None:
                    gradients = of_part
                else:
                    gradients = [a + b for a, b in zip(gradients, of_part)]
                # To wait for a function's own output is to wait for its assignments only,
                # which the forward pass makes; behind an identity it is to wait for the
                # gradient. Nor has a function's output a device, which collectives ask for.
                finished = [tf.identity(gradient) for gradient in gradients]
        return self._unscale(finished), losses

    def _run_jointly(self, queries):
        """As `run`, for targets that are made of the queries' own embeddings.

        All queries are embedded first; the loss's gradient with respect to the embeddings is
        taken; then each kind goes back through the encoder. A batch that comes in parts is
        embedded once more on the way back, since not all of its activations fit: so the loss is
        that of the whole batch however it is divided (arXiv:2101.06983).
        """
        keeps = self._steps == 1
        # Batch norm's moving statistics move in the second pass, where there is one.
        moving = [] if keeps else self._base.query_encoder.non_trainable_variables
        before = [tf.identity(variable.read_value()) for variable in moving]
        embedded, tapes, finished = {}, {}, before
        for kind, query in queries.items():
            parts = []
            for (images,) in self._split((query.images,)):
                with tf.control_dependencies(finished):
                    images = tf.identity(images)
                with tf.GradientTape() as tape:
                    parts.append(self._embed(images))
                finished = [tf.identity(value) for value in parts[-1].values()]
            tapes[kind] = (tape, parts[-1])
            embedded[kind] = {k: tf.concat([p[k] for p in parts], 0) for k in parts[0]}
        with tf.control_dependencies(finished):
            for variable, value in zip(moving, before):
                variable.assign(value)

        losses, cotangents, gradients = self._gradients_of_joint_loss(queries, embedded)
        variables = self._base.trained_variables
        finished = [tf.convert_to_tensor(gradient) for gradient in gradients]
        for kind, query in queries.items():
            for images, of_part in self._split((query.images, cotangents[kind])):
                with tf.control_dependencies(finished):
                    images = tf.identity(images)
                    of_part = tf.nest.map_structure(tf.identity, of_part)
                if keeps:
                    pulled = _pull(*tapes.pop(kind), variables, of_part)
                else:
                    pulled = self._pull_back(images, of_part)
                finished = [tf.identity(a + b) for a, b in zip(finished, pulled)]
        return self._unscale(finished), losses

    def _gradients_of_joint_loss(self, queries, embedded):
        """-> losses, gradients by the embeddings and, beside the encoder, by the variables."""
        with tf.GradientTape() as tape:
            tape.watch(embedded)
            levels = self._base.query_encoder.levels
            targets = {level: self._gather_columns(embedded, level) for level in levels}
            targets = self._base.targets_of_queries(targets)
            targets = self._cross_samples.with_partners(targets)
            own = {level: cross_replica.own_part(columns) for level, columns in targets.items()}
            losses, total = {}, 0.0
            for kind, query in queries.items():
                positives = {k: tf.repeat(v, query.per_anchor, axis=0) for k, v in own.items()}
                losses[kind], of_kind = self._mean_losses(
                    *(embedded[kind], positives, query.weights, _rows(query)),
                    *(query.family_size, targets),
                )
                total += self._scaled(of_kind, query.share)
        zeros = tf.UnconnectedGradients.ZERO
        sources = (embedded, self._base.trained_variables)
        return losses, *tape.gradient(total, sources, unconnected_gradients=zeros)

    def _gather_columns(self, embedded, level):
        kinds = self._cross_samples.kinds_of_targets()
        own = tf.stack([embedded[kind][level] for kind in kinds], axis=1)
        return cross_replica.all_gather_by_sum(own)

    def _losses_and_gradients(self, images, positives, weights, rows, family_size, targets, share):
        """One part of one kind: {level: its mean loss}, and the gradients of its share."""
        variables = self._base.trained_variables
        with tf.GradientTape() as tape:
            embeddings = self._base.query_encoder(images, training=True)
            level_losses, loss = self._mean_losses(
                embeddings, positives, weights, rows, family_size, targets
            )
            loss = self._scaled(loss, share)
        # Without a level there, the last stages are outside the loss.
        zeros = tf.UnconnectedGradients.ZERO
        return level_losses, tape.gradient(loss, variables, unconnected_gradients=zeros)

    def _mean_losses(self, embeddings, positives, weights, rows, family_size, targets):
        columns = self._cross_samples.anchor_columns(self._base.both_views_are_queries)
        images = tf.range(next(iter(targets.values())).shape[0])[None]
        is_stranger = tf.not_equal(rows[:, None] // family_size, images // family_size)
        in_batch = InBatch(targets, columns, is_stranger)
        losses = self._base.loss(embeddings, positives, weights, in_batch)
        means = {level: tf.reduce_mean(loss) for level, loss in losses.items()}
        return means, tf.add_n([self._level_weights[k] * value for k, value in means.items()])

    def _embed_queries(self, images):
        return self._base.query_encoder(images, training=True)

    def _gradients_of_embeddings(self, images, cotangents):
        with tf.GradientTape() as tape:
            embeddings = self._base.query_encoder(images, training=True)
        return _pull(tape, embeddings, self._base.trained_variables, cotangents)

    def _scaled(self, loss, share):
        # The optimizer adds up the gradients of all replicas.
        loss *= share / cross_replica.num_replicas()
        return self._optimizer.get_scaled_loss(loss) if self._has_loss_scale else loss

    def _unscale(self, gradients):
        if self._has_loss_scale:
            return self._optimizer.get_unscaled_gradients(gradients)
        return gradients

    @property
    def _has_loss_scale(self):
        return isinstance(self._optimizer, tf.keras.mixed_precision.LossScaleOptimizer)

    def _split(self, tensors):
        """Nested tensors of one batch -> as many of the same structure as there are parts."""
        flat = [tf.split(tensor, self._steps) for tensor in tf.nest.flatten(tensors)]
        return [tf.nest.pack_sequence_as(tensors, part) for part in zip(*flat)]


def _pull(tape, embeddings, variables, cotangents):
    """The gradients of the variables, for those of the embeddings."""
    return tape.gradient(
        [embeddings[level] for level in cotangents],
        variables,
        list(cotangents.values()),
        unconnected_gradients=tf.UnconnectedGradients.ZERO,
    )


def function_maker(encoder: MultiLevelEncoder, jit_compile: bool) -> Callable:
    """How a step's passes through the encoders are traced: once for all that are alike.

    Args:
        encoder: the query encoder.
        jit_compile: whether XLA compiles the passes where it cannot compile the whole step.

    Returns:
        function that makes of a function what is traced once; or what it is given, where
        replicas meet inside of a pass, as batch norm has them do where groups span replicas,
        which they cannot in a function.

    Raises:
        ValueError: if the passes cannot be compiled for that reason.
    """
    replicas = cross_replica.num_replicas()
    together = replicas > 1 and encoder.shares_statistics
    if jit_compile and together:
        raise ValueError(
            "jit_compile cannot compile batch norm over all replicas: choose BN_GROUPS as a "
            f"multiple of the {replicas} replicas, or JIT_COMPILE = False."
        )
    # AutoGraph would search our code and that of Keras for control flow on tensors, which has
    # none: ten seconds of a run's start.
    options = {"autograph": False}
    if jit_compile and replicas > 1:
        options["jit_compile"] = True

    def make_function(function):
        return function if together else tf.function(function, **options)

    return make_function


def _rows(query):
    """[n] int32: which images of the global batch this replica's queries are of."""
    batch = query.images.shape[0] // query.per_anchor
    rows = cross_replica.own_part(tf.range(batch * cross_replica.num_replicas()))
    return tf.repeat(rows, query.per_anchor, axis=0)
