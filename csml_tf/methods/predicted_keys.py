"""What BYOL and MoCo v3 share: keys of a momentum encoder, predicted from both views."""

from __future__ import annotations

import functools
import math
from typing import Callable

import tensorflow as tf

from csml_tf.methods import momentum_encoder
from csml_tf.methods.method import Method
from csml_tf.models import heads
from csml_tf.models.encoder import MultiLevelEncoder


class PredictedKeys(Method):
    """Symmetric: each view's query, through a predictor, against the other view's key.

    The key encoder's decay rises from `ema_decay` to 1 over the run by half a cosine,

        decay = 1 - (1 - ema_decay) * (cos(pi * progress) + 1) / 2

    (arXiv:2006.07733, section 3.2). A subclass brings the loss, of predictions and keys of
    unit length.

    Args:
        make_encoder: function of no arguments that returns a `MultiLevelEncoder`;
            called twice, for queries and for keys.
        make_predictor: function of (level, length of its embedding) and `output_dim`, that
            length once more, that returns a Keras model, [batch, length] -> [batch, length].
        ema_decay: of the key encoder per step at the start of the run, in [0, 1].
        seed: not used.

    Raises:
        ValueError: if an argument is outside the above.
    """

    both_views_are_queries = True
    needs_strangers = True
    takes_unit_vectors = False

    def __init__(
        self,
        make_encoder=MultiLevelEncoder,
        make_predictor: Callable = heads.make_batch_norm_head,
        ema_decay: float = 0.99,
        seed: int = 0,
    ):
        super().__init__(name=type(self).__name__.lower())
        del seed
        if not 0 <= ema_decay <= 1:
            raise ValueError(f"ema_decay must be in [0, 1], got {ema_decay}.")
        self.query_encoder = make_encoder()
        self.key_encoder = momentum_encoder.MomentumEncoder(make_encoder, self.query_encoder)
        self.encoders = {"query": self.query_encoder, "key": self.key_encoder.encoder}
        self.predictors = {
            level: make_predictor(f"{level}_predictor", dim, output_dim=dim)
            for level, dim in self.query_encoder.head_dims.items()
        }
        self.ema_decay = ema_decay

    @property
    def extra_layers(self):
        """The predictors."""
        return {f"the predictor of {level}": each for level, each in self.predictors.items()}

    @property
    def mining_encoder(self):
        """The key encoder, as with MoCo."""
        return self.key_encoder.encoder

    def prepare(self, make_function, accumulation_steps):
        """As `Method.prepare`."""
        self.key_encoder.prepare(make_function, accumulation_steps)

    def before_step(self, progress, epoch):
        """Moves the key encoder towards the query encoder, more slowly towards the end."""
        del epoch
        self.key_encoder.update(rising_decay(self.ema_decay, progress))

    def targets(self, views, seed):
        """The keys, [global batch, len(views), dim] per level, as the head makes them."""
        return self.key_encoder.embed_all(views, seed)

    def loss(self, queries, positives, weights, in_batch):
        """`loss_of_predictions` at each level."""
        unit = functools.partial(tf.math.l2_normalize, axis=-1)
        found = {}
        for level, query in queries.items():
            predicted = self.predictors[level](query, training=True)
            found[level] = self.loss_of_predictions(
                *(unit(tf.cast(predicted, tf.float32)), unit(positives[level]), weights),
                unit(in_batch.targets[level]),
                in_batch,
            )
        return found

    def loss_of_predictions(self, predictions, positives, weights, targets, in_batch):
        """The loss of one level, [n].

        Args:
            predictions: [n, dim], unit length.
            positives: [n, columns, dim], unit length.
            weights: [n, columns].
            targets: [global batch, columns, dim], unit length, the keys of all images.
            in_batch: `method.InBatch`.
        """
        raise NotImplementedError

    def start_from(self, state, has_head):
        """The key encoder; without one a copy of the query encoder."""
        return {"key encoder": self.key_encoder.start_from(self.query_encoder, state, has_head)}


def rising_decay(start, progress):
    """A key encoder's decay, from `start` to 1 while progress goes from 0 to 1.

    Example:
        >>> [round(float(rising_decay(0.996, progress)), 4) for progress in (0.0, 0.5, 1.0)]
        [0.996, 0.998, 1.0]
    """
    return 1.0 - (1.0 - start) * (tf.cos(math.pi * tf.cast(progress, tf.float32)) + 1.0) / 2.0
