"""SimCLR: both views are queries, and the other images of the batch are the negatives."""

from __future__ import annotations

import tensorflow as tf

from csml_tf import losses
from csml_tf.methods.method import Method
from csml_tf.models.encoder import MultiLevelEncoder


class SimCLR(Method):
    """Each view against the other one, among all views of the other images of the batch.

    NT-Xent over the batch of all replicas, with the gradient through queries, positives and
    negatives (arXiv:2002.05709). Views of neighbors are positives and never negatives, as their
    keys never enter MoCo's queue in CsMl; in batches of pairs an image's neighbor is no negative
    of it either.

    Args:
        make_encoder: function of no arguments that returns a `MultiLevelEncoder`.
        temperature: of the loss, above 0.
        seed: not used.

    Raises:
        ValueError: if an argument is outside the above.
    """

    both_views_are_queries = True
    queries_are_targets = True
    needs_strangers = True
    takes_unit_vectors = False

    def __init__(self, make_encoder=MultiLevelEncoder, temperature: float = 0.1, seed: int = 0):
        super().__init__(name="simclr")
        del seed
        if temperature <= 0:
            raise ValueError(f"temperature must be above 0, got {temperature}.")
        self.query_encoder = make_encoder()
        self.encoders = {"query": self.query_encoder}
        self.temperature = temperature

    def loss(self, queries, positives, weights, in_batch):
        """NT-Xent, in nats."""
        is_negative = tf.tile(in_batch.is_stranger, [1, len(in_batch.anchor_columns)])
        found = {}
        for level, query in queries.items():
            columns = tf.unstack(in_batch.targets[level], axis=1)
            negatives = tf.concat([columns[number] for number in in_batch.anchor_columns], axis=0)
            found[level] = losses.multi_positive_info_nce(
                tf.math.l2_normalize(query, axis=-1),
                tf.math.l2_normalize(positives[level], axis=-1),
                tf.math.l2_normalize(negatives, axis=-1),
                *(weights, self.temperature, is_negative),
            )
        return found
