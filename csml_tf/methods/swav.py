"""SwAV: each view predicts which prototypes the other one was assigned to."""

from __future__ import annotations

import tensorflow as tf
from absl import logging

from csml_tf import losses
from csml_tf.errors import InputError
from csml_tf.methods.method import Method
from csml_tf.models import cross_replica
from csml_tf.models.encoder import MultiLevelEncoder


class SwAV(Method):
    """Swapped prediction of codes, arXiv:2006.09882.

    A code is an image's share of each prototype, by Sinkhorn-Knopp over the batch of all
    replicas, so that all prototypes are used alike. A batch smaller than the prototypes are many
    is filled up with embeddings of earlier batches, a queue for each view.

    Args:
        make_encoder: function of no arguments that returns a `MultiLevelEncoder`.
        num_prototypes: of each level.
        temperature: of the softmax that predicts, above 0.
        epsilon: of the codes, above 0; the smaller, the nearer to one prototype.
        sinkhorn_iterations: at least 1.
        queue_length: embeddings kept of each view; 0 for none.
        queue_from_epoch: first epoch, from 0, that uses the queue; it fills from the start.
        frozen_epochs: epochs at the start in which the prototypes stand still.
        seed: int, of the prototypes' start.

    Raises:
        ValueError: if an argument is outside the above.
    """

    both_views_are_queries = True
    queries_are_targets = True
    needs_strangers = True
    takes_unit_vectors = False

    def __init__(
        self,
        make_encoder=MultiLevelEncoder,
        num_prototypes: int = 3000,
        temperature: float = 0.1,
        epsilon: float = 0.05,
        sinkhorn_iterations: int = 3,
        queue_length: int = 0,
        queue_from_epoch: int = 15,
        frozen_epochs: int = 1,
        seed: int = 0,
    ):
        super().__init__(name="swav")
        for name, value, least in (
            ("num_prototypes", num_prototypes, 2),
            ("sinkhorn_iterations", sinkhorn_iterations, 1),
            ("queue_length", queue_length, 0),
            ("queue_from_epoch", queue_from_epoch, 0),
            ("frozen_epochs", frozen_epochs, 0),
        ):
            if value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}.")
        if temperature <= 0 or epsilon <= 0:
            raise ValueError(
                f"temperature and epsilon must be above 0, got {temperature} and {epsilon}."
            )
        self.query_encoder = make_encoder()
        self.encoders = {"query": self.query_encoder}
        self.prototypes = {
            level: _Prototypes(num_prototypes, dim, queue_length, (seed, index), level)
            for index, (level, dim) in enumerate(self.query_encoder.head_dims.items())
        }
        self.epoch = tf.Variable(0, dtype=tf.int64, trainable=False, name="epoch_of_prototypes")
        self.num_prototypes = num_prototypes
        self.temperature = temperature
        self.epsilon = epsilon
        self.sinkhorn_iterations = sinkhorn_iterations
        self.queue_length = queue_length
        self.queue_from_epoch = queue_from_epoch
        self.frozen_epochs = frozen_epochs

    @property
    def extra_layers(self):
        """The prototypes."""
        return {f"the prototypes of {level}": each for level, each in self.prototypes.items()}

    @property
    def shared_variables(self):
        """The queues and the epoch."""
        queues = [v for each in self.prototypes.values() for v in each.non_trainable_variables]
        return {variable.name: variable for variable in [self.epoch, *queues]}

    def check(self, global_batch_size, num_images, data_name):
        """Refuses a queue that holds no whole batch; warns of too few rows for the prototypes."""
        del num_images, data_name
        if 0 < self.queue_length < global_batch_size:
            raise InputError(
                f"SwAV's queue of {self.queue_length} embeddings is smaller than the batch of "
                f"{global_batch_size}, so no earlier batch would be in it: raise QUEUE_LENGTH, or "
                "set it to 0 for no queue."
            )
        rows = global_batch_size + self.queue_length
        if rows < self.num_prototypes:
            logging.warning(
                "%d prototypes cannot all be used by %d embeddings of a batch and its queue: "
                "lower NUM_PROTOTYPES, or raise QUEUE_LENGTH to %d.",
                *(self.num_prototypes, rows, self.num_prototypes - global_batch_size),
            )

    def before_step(self, progress, epoch):
        """Brings the prototypes to unit length."""
        del progress
        cross_replica.update([self.epoch], lambda variable, value: variable.assign(value), [epoch])
        for each in self.prototypes.values():
            each.normalize()

    def targets_of_queries(self, embeddings):
        """The codes, [global batch, columns, num_prototypes] per level, without gradient."""
        return {
            level: self._codes(self.prototypes[level], tf.stop_gradient(columns))
            for level, columns in embeddings.items()
        }

    def _codes(self, prototypes, embeddings):
        unit = tf.math.l2_normalize(embeddings, axis=-1)
        columns_of_a_view = unit.shape[1] // 2
        is_late = self.epoch >= self.queue_from_epoch
        codes = []
        for column, of_column in enumerate(tf.unstack(unit, axis=1)):
            rows, is_used = of_column, None
            if self.queue_length:
                earlier = prototypes.queues[column // columns_of_a_view]
                rows = tf.concat([of_column, earlier], axis=0)
                in_use = tf.fill([self.queue_length], is_late & prototypes.is_full)
                is_used = tf.concat([tf.ones([of_column.shape[0]], tf.bool), in_use], axis=0)
            scores = tf.stop_gradient(prototypes(rows))
            found = losses.sinkhorn_codes(scores, self.epsilon, self.sinkhorn_iterations, is_used)
            codes.append(found[: of_column.shape[0]])
        if self.queue_length:
            prototypes.enqueue([unit[:, 0], unit[:, columns_of_a_view]])
        return tf.stack(codes, axis=1)

    def loss(self, queries, positives, weights, in_batch):
        """The cross-entropy to the positives' codes, in nats."""
        del in_batch
        is_frozen = self.epoch < self.frozen_epochs
        return {
            level: losses.multi_code_cross_entropy(
                self.prototypes[level](tf.math.l2_normalize(query, axis=-1), is_frozen),
                *(positives[level], weights, self.temperature),
            )
            for level, query in queries.items()
        }


class _Prototypes(tf.keras.layers.Layer):
    """Prototypes on the sphere, and the queues of embeddings of both views.

    Args:
        num_prototypes: rows.
        dim: length of an embedding.
        queue_length: rows of each queue.
        seed: pair of ints.
        level: that it belongs to.
    """

    def __init__(self, num_prototypes, dim, queue_length, seed, level):
        super().__init__(name=f"{level}_prototypes", dtype="float32")
        start = tf.math.l2_normalize(
            tf.random.stateless_normal([num_prototypes, dim], seed), axis=1
        )
        self.vectors = tf.Variable(start, name=f"{level}_prototypes/kernel")
        shape = [2, queue_length, dim]
        self.queues = tf.Variable(tf.zeros(shape), trainable=False, name=f"{level}_embeddings")
        self.enqueued = tf.Variable(
            0, dtype=tf.int64, trainable=False, name=f"{level}_embeddings_enqueued"
        )

    def call(self, embeddings, is_frozen=False):
        """[n, dim] unit vectors -> [n, num_prototypes] cosines."""
        vectors = tf.convert_to_tensor(self.vectors)
        vectors = tf.where(is_frozen, tf.stop_gradient(vectors), vectors)
        return tf.matmul(embeddings, vectors, transpose_b=True)

    @property
    def is_full(self):
        """Whether every row of the queues has been written."""
        return self.enqueued >= self.queues.shape[1]

    def normalize(self):
        """Unit length for each prototype, on every replica."""
        cross_replica.update(
            [self.vectors], lambda variable: variable.assign(tf.math.l2_normalize(variable, axis=1))
        )

    def enqueue(self, of_views):
        """Puts [batch, dim] of each view in front of the older ones, which move on."""
        length = self.queues.shape[1]
        newest = tf.stack(of_views)

        def write(variable, newest):
            variable.assign(tf.concat([newest, variable], axis=1)[:, :length])

        def count(variable):
            variable.assign_add(newest.shape[1])

        cross_replica.update([self.queues], write, [newest])
        cross_replica.update([self.enqueued], count)
