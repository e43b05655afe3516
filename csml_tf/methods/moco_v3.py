"""MoCo v3: predictions against the keys of the batch; no queue."""

from __future__ import annotations

from typing import Callable

import tensorflow as tf

from csml_tf import losses
from csml_tf.methods.predicted_keys import PredictedKeys
from csml_tf.models import heads
from csml_tf.models.encoder import MultiLevelEncoder


class MoCoV3(PredictedKeys):
    """InfoNCE of each view's prediction among the other view's keys, arXiv:2104.02057.

    The negatives are the keys of the other images of the batch of all replicas, of the same
    view as the positive; neighbors' keys are never among them. The paper's loss is the sum over
    the two views, times 2 * temperature; queries here share the loss by means, so it counts
    twice, whatever other queries there are.

    Args:
        make_encoder, make_predictor, ema_decay, seed: as for `PredictedKeys`.
        temperature: of the loss, above 0.

    Raises:
        ValueError: if an argument is outside the above.
    """

    def __init__(
        self,
        make_encoder=MultiLevelEncoder,
        make_predictor: Callable = heads.make_batch_norm_head,
        ema_decay: float = 0.99,
        temperature: float = 1.0,
        seed: int = 0,
    ):
        super().__init__(make_encoder, make_predictor, ema_decay, seed)
        if temperature <= 0:
            raise ValueError(f"temperature must be above 0, got {temperature}.")
        self.temperature = temperature

    def loss_of_predictions(self, predictions, positives, weights, targets, in_batch):
        """4 * temperature * InfoNCE, in nats; the columns of each view among their own kind."""
        views = len(in_batch.anchor_columns)
        groups = zip(
            in_batch.anchor_columns,
            tf.split(positives, views, axis=1),
            tf.split(weights, views, axis=1),
        )
        of_views = [
            losses.multi_positive_info_nce(
                *(predictions, own, targets[:, column], own_weights, self.temperature),
                in_batch.is_stranger,
            )
            for column, own, own_weights in groups
        ]
        return 4.0 * self.temperature * tf.add_n(of_views)
