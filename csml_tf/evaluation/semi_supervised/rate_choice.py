"""Which learning rates suit the labelled images: tried on four fifths, judged on the last one."""

import dataclasses

import numpy as np
from absl import logging

from csml_tf import features
from csml_tf.evaluation.linear import held_out
from csml_tf.evaluation.semi_supervised import fine_tuning, trials

# (backbone, head) of the first epoch. Of equally good ones the first is taken: what suits a
# network of any weights comes before what suits one that should change little.
PAIRS = ((0.1, 0.1), (0.03, 0.3), (0.03, 0.03), (0.01, 0.1), (0.3, 0.3))
# For fresh weights, of all parameters.
SCRATCH_RATES = (0.1, 0.03, 0.3)
# Of the epochs of the run itself: one fit costs 4/15 of it.
_EPOCH_SHARE = 1 / 3

# For a protocol card.
CHOICE = (
    "learning rates by top-1 on a held-out fifth of the labelled images, after a third of the "
    "epochs on the others, seed 0"
)


def candidates(backbone=None, head=None):
    """The pairs of rates to try, (backbone, head), those that are given kept.

    Example:
        >>> candidates(backbone=0.2)
        [(0.2, 0.2), (0.2, 2.0)]
        >>> candidates(0.2, 0.5)
        [(0.2, 0.5)]
    """
    if backbone is not None and head is not None:
        return [(backbone, head)]
    if backbone is not None:
        return [(backbone, factor * backbone) for factor in (1, 10)]
    if head is not None:
        return [(rate, head) for rate in dict.fromkeys(rate for rate, _ in PAIRS)]
    return list(PAIRS)


def choose(classifier, trained, weights, labelled, plan, pairs, fit_batch, view):
    """Trains on four fifths of the labelled images at all rates, and tests on the last fifth.

    Args:
        classifier: `fine_tuning.Classifier`; left trained at some of the rates.
        trained: name of the kind of run, such as "from_scratch".
        weights: that the network starts from, as for `Classifier.start`.
        labelled: `ImageSource` whose images all have a label.
        plan: `fine_tuning.TrainingPlan` of the runs to come; its rates do not count.
        pairs: [(backbone, head)] rates to choose from, at least one.
        fit_batch: function of a source to the batch size that it can be trained with.
        view: `augment.center_view.CenterView` of the held-out images.

    Returns:
        (`TrainingPlan` with the best pair: of the highest top-1, and of equals that of the lowest
        mean cross-entropy; a list of {"trained", "backbone_learning_rate",
        "head_learning_rate", "held_out_top1", "chosen"}, empty where there is one pair only). A
        pair that diverges has a top-1 of 0.
    """
    rated = [
        dataclasses.replace(plan, backbone_learning_rate=pair[0], head_learning_rate=pair[1])
        for pair in pairs
    ]
    if len(rated) == 1:
        return rated[0], []
    hidden = held_out.draw(labelled.labels)
    seen, held = (labelled.subset(np.flatnonzero(part)) for part in (~hidden, hidden))
    short = {"epochs": max(1, round(_EPOCH_SHARE * plan.epochs)), "batch_size": fit_batch(seen)}
    scores = []
    for each in rated:
        classifier.start(weights, seed=0)
        description = (
            f"{trained.replace('_', ' ')}, trying rates {each.backbone_learning_rate:g} and "
            f"{each.head_learning_rate:g}"
        )
        try:
            own_plan = dataclasses.replace(each, **short)
            classifier.train(seen, seen.labels, own_plan, 0, description)
        except fine_tuning.Diverged:
            scores.append((0.0, -np.inf))
            continue
        logits = features.extract_features(
            classifier.logits, held, view, description="held-out images"
        )
        top1 = trials.top_k_accuracy(logits, held.labels, 1)
        scores.append((top1, -_cross_entropy(logits, held.labels)))
    best = max(range(len(rated)), key=scores.__getitem__)
    logging.info(
        "%s: learning rates %g (backbone) and %g (head) of %d pairs, for %.2f %% on %d held-out "
        "labelled images.",
        *(trained.replace("_", " "), *pairs[best], len(pairs), 100 * scores[best][0], len(held)),
    )
    rows = [
        {
            "trained": trained,
            "backbone_learning_rate": pair[0],
            "head_learning_rate": pair[1],
            "held_out_top1": score[0],
            "chosen": i == best,
        }
        for i, (pair, score) in enumerate(zip(pairs, scores))
    ]
    return rated[best], rows


def _cross_entropy(logits, labels):
    """Mean over the images, nats; infinite where a logit is not finite."""
    if not np.isfinite(logits).all():
        return np.inf
    own = np.take_along_axis(logits, np.asarray(labels)[:, None], axis=1)[:, 0]
    largest = logits.max(axis=1)
    totals = largest + np.log(np.exp(logits - largest[:, None]).sum(axis=1))
    return float(np.mean(totals - own))
