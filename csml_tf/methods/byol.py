"""BYOL: a predictor follows a slowly moving encoder, without any negatives."""

from __future__ import annotations

from csml_tf import losses
from csml_tf.methods.predicted_keys import PredictedKeys


class BYOL(PredictedKeys):
    """Each view's prediction pulled towards the other view's key, arXiv:2006.07733.

    The paper's loss is the sum over the two views; queries here share the loss by means, so the
    distance counts twice, whatever other queries there are.
    """

    def loss_of_predictions(self, predictions, positives, weights, targets, in_batch):
        """Twice the squared distance."""
        del targets, in_batch
        return 2.0 * losses.multi_positive_distance(predictions, positives, weights)
