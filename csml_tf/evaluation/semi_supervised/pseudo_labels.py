"""Labels that a fine-tuned network gives to unlabelled images, and which of them to believe.

CsMl, arXiv:2012.02733: the network infers on all unlabelled images, the entropy of its class
probabilities measures its confidence, and images of high entropy are left out.
"""

import dataclasses

import numpy as np
import tensorflow as tf

from csml_tf import features, setting_rules
from csml_tf.errors import InputError

# Of the unlabelled images, where the user names no threshold; ours, the paper's is not public.
DEFAULT_KEPT_SHARE = 0.5


@dataclasses.dataclass(frozen=True)
class PseudoLabels:
    """What a network says about some images of a source.

    Attributes:
        indices: [n] int64, of the images.
        labels: [n] int64, the most likely class of each.
        entropies: [n] float32, of its class probabilities, nats.
    """

    indices: np.ndarray
    labels: np.ndarray
    entropies: np.ndarray

    def __len__(self):
        return len(self.indices)

    def keep(self, rule, num_classes):
        """Those that a `KeepingRule` keeps, in the same order.

        Raises:
            InputError: if these are none.
        """
        kept = rule.select(self.labels, self.entropies, num_classes)
        return PseudoLabels(self.indices[kept], self.labels[kept], self.entropies[kept])

    def to_csv(self):
        """As text: a line for each image, "index,label,entropy_nats"."""
        rows = zip(self.indices, self.labels, self.entropies)
        lines = [f"{index},{label},{entropy:.6g}\n" for index, label, entropy in rows]
        return "".join(["index,label,entropy_nats\n", *lines])


@dataclasses.dataclass(frozen=True)
class KeepingRule:
    """Which pseudo labels are kept: by entropy, or the most confident share of all images.

    Args:
        max_entropy: nats; what is above it is left out. None: by share.
        kept_share: of the unlabelled images, in (0, 1]; None: by entropy, or
            `DEFAULT_KEPT_SHARE` if there is none either.
        balance_classes: whether no predicted class may have more images than the others. By
            share, each class keeps an equal part of what the share is, as far as it has
            images; by entropy, each class keeps as many as the rarest of those below the
            threshold. The most confident ones, in both cases.

    Raises:
        InputError: if both are given or one is out of range.
    """

    max_entropy: float = None
    kept_share: float = None
    balance_classes: bool = False

    def __post_init__(self):
        if self.max_entropy is not None and self.kept_share is not None:
            raise InputError(
                "Pseudo labels are kept by --max_entropy or by --kept_share: leave one out."
            )
        setting_rules.check({"max_entropy": self.max_entropy, "kept_share": self.kept_share})
        if self.max_entropy is None and self.kept_share is None:
            object.__setattr__(self, "kept_share", DEFAULT_KEPT_SHARE)

    def __str__(self):
        if self.max_entropy is not None:
            rule = f"entropy at most {self.max_entropy:g} nats"
        else:
            rule = f"the {self.kept_share:.4g} share of lowest entropy"
        return rule + (", classes balanced" if self.balance_classes else "")

    def select(self, labels, entropies, num_classes):
        """Applies the rule.

        Args:
            labels: [n] integers from 0, as predicted.
            entropies: [n] float, nats.
            num_classes: int, predicted or not.

        Returns:
            [kept] int64 positions, rising; of equal entropies the first are kept.

        Raises:
            InputError: if nothing is kept.
        """
        labels, entropies = np.asarray(labels), np.asarray(entropies)
        order = np.argsort(entropies, kind="stable")
        if self.max_entropy is not None:
            order = order[entropies[order] <= self.max_entropy]
            counts = np.bincount(labels[order], minlength=num_classes)
            quota = counts[counts > 0].min(initial=len(labels))
        else:
            quota = round(self.kept_share * len(labels) / num_classes)
            if not self.balance_classes:
                order = order[: round(self.kept_share * len(labels))]
        if self.balance_classes:
            order = order[_rank_in_class(labels[order]) < quota]
        if not len(order):
            raise InputError(self._explain_nothing(entropies))
        return np.sort(order)

    def _explain_nothing(self, entropies):
        if self.max_entropy is not None:
            return (
                f"No pseudo label has an entropy of at most {self.max_entropy:g} nats, the lowest "
                f"is {entropies.min():.3g}, half are below {np.median(entropies):.3g}: raise "
                "--max_entropy."
            )
        return (
            f"--kept_share={self.kept_share:g} of {len(entropies)} unlabelled images keeps none: "
            "raise it."
        )


def infer(logits, source, indices, center_view):
    """The class that a network believes an image to be of, and how sure it is.

    Args:
        logits: function of [batch, size, size, 3] images to [batch, num_classes].
        source: `ImageSource`.
        indices: [n] integers, of the unlabelled images.
        center_view: `augment.center_view.CenterView`.

    Returns:
        `PseudoLabels` of all n.
    """

    @tf.function(reduce_retracing=True)
    def label_and_entropy(images):
        scores = logits(images)
        # As float, which holds every integer up to 2^24.
        label = tf.cast(tf.argmax(scores, axis=1), tf.float32)
        return tf.stack([label, softmax_entropy(scores)], axis=1)

    both = features.extract_features(
        label_and_entropy, source.subset(indices), center_view, description="pseudo labels"
    )
    return PseudoLabels(np.asarray(indices), both[:, 0].astype(np.int64), both[:, 1])


def softmax_entropy(logits):
    """How unsure the class probabilities are.

        entropy = -sum_c p[c] log p[c],  p = softmax(logits)

    Args:
        logits: [batch, num_classes] float.

    Returns:
        [batch] float, nats: 0 for certainty, log(num_classes) for equal probabilities.

    Example:
        >>> round(float(softmax_entropy(tf.zeros([1, 10]))[0]), 4)  # log(10)
        2.3026
    """
    log_probabilities = tf.nn.log_softmax(logits)
    return -tf.reduce_sum(tf.exp(log_probabilities) * log_probabilities, axis=1)


def assess(guesses, kept, source):
    """What can be said about a round of pseudo labels.

    Args:
        guesses: `PseudoLabels` of all unlabelled images.
        kept: those of them that are believed; at least one.
        source: their `ImageSource`; its labels are the truth, where it has any.

    Returns:
        {"unlabelled", "kept": numbers of images, "rarest_class", "commonest_class": kept
        images of it, "highest_entropy": of the kept ones, nats}, and where the truth is
        known "accuracy", of the kept ones, and "accuracy_of_all", in [0, 1].
    """
    counts = np.bincount(kept.labels, minlength=guesses.labels.max() + 1)
    row = {
        "unlabelled": len(guesses),
        "kept": len(kept),
        "rarest_class": int(counts.min()),
        "commonest_class": int(counts.max()),
        "highest_entropy": float(kept.entropies.max()),
    }
    if (source.labels[kept.indices] >= 0).any():
        for name, chosen in (("accuracy", kept), ("accuracy_of_all", guesses)):
            truth = source.labels[chosen.indices]
            row[name] = float(np.mean((chosen.labels == truth)[truth >= 0]))
    return row


def _rank_in_class(labels):
    """How many of the same class come before each: [n] integers -> [n] int64."""
    ranks = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        ranks[members] = np.arange(len(members))
    return ranks
