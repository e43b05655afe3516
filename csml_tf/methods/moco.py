"""MoCo v1 and v2: keys of a momentum encoder, a queue of negatives, InfoNCE."""

from __future__ import annotations

import math

from absl import logging

from csml_tf import losses
from csml_tf.errors import InputError
from csml_tf.methods import key_queue, momentum_encoder
from csml_tf.methods.method import Method
from csml_tf.models.encoder import MultiLevelEncoder


class MoCo(Method):
    """Queries against the keys of a slowly moving encoder and a queue of earlier keys.

    Each level has a queue of its own, which gets the keys of the anchors only, never those of
    their neighbors (arXiv:1911.05722, arXiv:2003.04297). Batch norm cannot tell which key
    belongs to which query: keys go through it in a shuffled order where its groups are parts
    of the batch.

    Args:
        make_encoder: function of no arguments that returns a `MultiLevelEncoder`;
            called twice, for queries and for keys.
        num_negatives: keys in the queue of each level.
        ema_decay: of the key encoder per step, in [0, 1].
        temperature: of the loss, above 0.
        seed: int, of the queues' random start.

    Raises:
        ValueError: if an argument is outside the above.
    """

    def __init__(
        self,
        make_encoder=MultiLevelEncoder,
        num_negatives: int = 65536,
        ema_decay: float = 0.999,
        temperature: float = 0.2,
        seed: int = 0,
    ):
        super().__init__(name="moco")
        if not 0 <= ema_decay <= 1:
            raise ValueError(f"ema_decay must be in [0, 1], got {ema_decay}.")
        if temperature <= 0:
            raise ValueError(f"temperature must be above 0, got {temperature}.")
        self.query_encoder = make_encoder()
        self.key_encoder = momentum_encoder.MomentumEncoder(make_encoder, self.query_encoder)
        self.encoders = {"query": self.query_encoder, "key": self.key_encoder.encoder}
        self.queues = {
            level: key_queue.KeyQueue(num_negatives, dim, (seed, index), name=f"{level}_queue")
            for index, (level, dim) in enumerate(self.query_encoder.head_dims.items())
        }
        self.num_negatives = num_negatives
        self.ema_decay = ema_decay
        self.temperature = temperature

    @property
    def mining_encoder(self):
        """The key encoder, as in the authors' code."""
        return self.key_encoder.encoder

    @property
    def recent_embeddings(self):
        """The keys in the queues."""
        return {level: queue.keys for level, queue in self.queues.items()}

    @property
    def chance_loss(self):
        """The key as near as each key of the queue: ln(1 + num_negatives)."""
        return math.log(1 + self.num_negatives)

    @property
    def shared_variables(self):
        """The queues and their cursors."""
        return {v.name: v for queue in self.queues.values() for v in queue.variables}

    def prepare(self, make_function, accumulation_steps):
        """As `Method.prepare`."""
        self.key_encoder.prepare(make_function, accumulation_steps)

    def check(self, global_batch_size, num_images, data_name):
        """Refuses a queue that a batch fills; warns of one that is larger than the data."""
        if self.num_negatives <= global_batch_size:
            raise InputError(
                f"The queue of {self.num_negatives} keys is not larger than the batch of "
                f"{global_batch_size}, so a key would be gone before it serves: raise "
                "NUM_NEGATIVES or lower GLOBAL_BATCH_SIZE."
            )
        if self.num_negatives > num_images:
            logging.warning(
                "The queue of %d keys is larger than %s with its %d images, so it holds older "
                "keys of the same images as negatives: try NUM_NEGATIVES = %d.",
                self.num_negatives,
                data_name,
                num_images,
                max(num_images // 4, global_batch_size + 1),
            )

    def before_step(self, progress, epoch):
        """Moves the key encoder towards the query encoder."""
        del progress, epoch
        self.key_encoder.update(self.ema_decay)

    def targets(self, views, seed):
        """The keys, [global batch, len(views), dim] unit vectors per level."""
        return self.key_encoder.embed_all(views, seed)

    def loss(self, queries, positives, weights, in_batch):
        """InfoNCE against the queue, in nats."""
        del in_batch
        return {
            level: losses.multi_positive_info_nce(
                queries[level], positives[level], queue.keys, weights, self.temperature
            )
            for level, queue in self.queues.items()
        }

    def after_step(self, targets):
        """The anchors' keys, of all replicas, enter the queues."""
        for level, queue in self.queues.items():
            queue.enqueue(targets[level][:, 0])

    def start_from(self, state, has_head):
        """The key encoder and the last level's queue; without a key encoder a copy of the query."""
        level = self.query_encoder.levels[-1]
        queue = self.queues[level]
        has_key = self.key_encoder.start_from(self.query_encoder, state, has_head)
        # Keys of another head would mean nothing to this one.
        has_queue = has_head and state.queue is not None and state.queue.shape == queue.keys.shape
        if has_queue:
            queue.keys.assign(state.queue)
            queue.cursor.assign(state.cursor)
        parts = {"key encoder": has_key, f"queue of {level}": has_queue}
        parts.update({f"queue of {other}": False for other in self.query_encoder.levels[:-1]})
        return parts
