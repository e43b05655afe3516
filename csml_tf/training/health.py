"""How spread out the embeddings are, each epoch and without labels; warns where they collapse."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from absl import logging

from csml_tf import features
from csml_tf.training.assembly import Assembly

FIGURES = ("effective_rank", "stranger_cosine", "queue_entropy_share")

_MOST_VECTORS = 4096
_MOST_QUERIES = 256
_SAMPLE = 256  # Images that are embedded anew where the method keeps no embeddings.

# Warnings wait: a queue begins with random vectors, and a network with all images alike.
_FIRST_EPOCH = 3
_COLLAPSED_COSINE = 0.98
_COLLAPSED_RANK = 2.0
_CHANCE_SHARE = 0.98  # Of the loss at chance.


def effective_rank(vectors: np.ndarray) -> float:
    """The exponential of the entropy, in nats, of the shares that the axes have of the variance.

    Roy and Vetterli, EUSIPCO 2007, of the squared singular values of the centred vectors; from 1,
    all on a line, to `dim`, spread alike.

    Args:
        vectors: [n, dim] float.

    Example:
        >>> round(effective_rank(np.eye(4)), 6)
        3.0
    """
    centred = vectors - vectors.mean(axis=0)
    variances = np.linalg.svd(centred, compute_uv=False).astype(np.float64) ** 2
    if variances.sum() < 1e-12:
        return 1.0
    shares = variances / variances.sum()
    shares = shares[shares > 1e-12]
    return float(np.exp(-np.sum(shares * np.log(shares))))


def stranger_cosine(vectors: np.ndarray) -> float:
    """Mean cosine of two different rows: 1 for all alike, about 0 for any direction.

    Args:
        vectors: [n, dim] unit vectors, n at least 2.
    """
    n = len(vectors)
    total = vectors.sum(axis=0, dtype=np.float64)
    return float((total @ total - n) / (n * (n - 1)))


def queue_entropy_share(vectors: np.ndarray, temperature: float) -> float:
    """Entropy of how a key weighs the others, as a share of ln(n - 1); mean over the first keys.

    The weights are those of the loss, softmax of cosine / temperature. 1: all others weigh alike,
    as where all are the same; near 0: a single one outweighs the rest of the queue.

    Args:
        vectors: [n, dim] unit vectors, n at least 3.
        temperature: of the loss, above 0.
    """
    queries = vectors[:_MOST_QUERIES]
    logits = queries @ vectors.T / temperature
    logits[np.arange(len(queries)), np.arange(len(queries))] = -np.inf
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    logs = np.log(np.maximum(weights, 1e-30))
    return float(-(weights * logs).sum(axis=1).mean() / np.log(len(vectors) - 1))


class Health:
    """Measures once an epoch, on the keys of the queue or on a few images.

    Args:
        assembled: the run's parts.
    """

    def __init__(self, assembled: Assembly):
        self._assembled = assembled
        self._warned: set[str] = set()

    def measure(self, epoch: int, row: dict[str, Any]) -> dict[str, float]:
        """Figures of the last level, and warnings, each once.

        Args:
            epoch: from 0, whose steps are done.
            row: its figures by now.

        Returns:
            {"effective_rank", "stranger_cosine": float}, and "queue_entropy_share" where the
            method keeps a queue.
        """
        base = self._assembled.model.base
        level = base.query_encoder.levels[-1]
        kept = base.recent_embeddings.get(level)
        vectors = self._embed() if kept is None else kept.numpy()[:_MOST_VECTORS]
        if len(vectors) < 3:
            return {}
        figures = {
            "effective_rank": effective_rank(vectors),
            "stranger_cosine": stranger_cosine(vectors),
        }
        temperature = getattr(base, "temperature", None)
        if kept is not None and temperature is not None:
            figures["queue_entropy_share"] = queue_entropy_share(vectors, temperature)
        if epoch + 1 >= _FIRST_EPOCH:
            self._warn(epoch, figures, row)
        return figures

    def _embed(self):
        """[n, dim] embeddings of images spread over the source."""
        assembled = self._assembled
        encode = assembled.model.encoder.embedding
        return features.extract_features(encode, self._sample, assembled.center_view)

    @functools.cached_property
    def _sample(self):
        source = self._assembled.source
        return source.subset(np.unique(np.linspace(0, len(source) - 1, _SAMPLE).astype(int)))

    def _warn(self, epoch, figures, row):
        cosine, rank = figures["stranger_cosine"], figures["effective_rank"]
        if cosine > _COLLAPSED_COSINE or rank < _COLLAPSED_RANK:
            self._warn_once(
                "collapse",
                f"The embeddings collapse: after epoch {epoch + 1} strangers have a mean cosine of "
                f"{cosine:.3f}, and the effective rank is {rank:.1f}; lower LEARNING_RATE or "
                "raise GLOBAL_BATCH_SIZE; with MoCo, raise BN_GROUPS.",
            )
        chance = self._assembled.model.base.chance_loss
        stuck = [
            name
            for name, loss in row.items()
            if chance is not None and name.endswith("_image") and loss > _CHANCE_SHARE * chance
        ]
        if stuck:
            self._warn_once(
                "chance",
                f"The loss stays at chance: {stuck[0]} is {row[stuck[0]]:.3f} after epoch "
                f"{epoch + 1}, and {chance:.3f} where nothing is told from anything; change "
                "LEARNING_RATE, or look at the views with csml-tf report --views.",
            )

    def _warn_once(self, kind, sentence):
        if kind not in self._warned:
            self._warned.add(kind)
            logging.warning("%s", sentence)
