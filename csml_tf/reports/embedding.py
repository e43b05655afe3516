"""Where images lie on a map: those with similar features close together, in bounded time."""

import dataclasses
import time

import numpy as np
from absl import logging

from csml_tf import progress, similarity
from csml_tf.reports import tsne
from csml_tf.reports.part import LeftOut

# Of those that t-SNE places: its time grows faster than their number.
MAX_IMAGES = 1500
_MIN_IMAGES = 10
_PERPLEXITY = 30
ITERATIONS = 500
MAX_SECONDS = 60
# Of images that t-SNE has placed, for each that it has not.
_NUM_ANCHORS = 5
# Of the step aside, as a share of the mean distance between dots that fill a square.
_SIDE_STEP = 0.5


def perplexity(num_images):
    """Of t-SNE: 30, or less where there are fewer than 91 images."""
    return min(_PERPLEXITY, (num_images - 1) / 3)


@dataclasses.dataclass(frozen=True)
class Embedding:
    """Where images lie on the map.

    Attributes:
        positions: [n, 2] float in [0, 1]; the longer side of the cloud is 1.
        placed: [m] integers in order, the rows that t-SNE has placed; the others lie among those
            of them that are nearest by their features.
        iterations: of t-SNE, that were done.
    """

    positions: np.ndarray
    placed: np.ndarray
    iterations: int = ITERATIONS

    def describe(self):
        """How the positions came about, in words."""
        count, others = len(self.placed), len(self.positions) - len(self.placed)
        text = f"t-SNE of {count:,} images, perplexity {perplexity(count):g}, {self.iterations} "
        text += "iterations"
        if self.iterations < ITERATIONS:
            text += f" of {ITERATIONS}, as many as {MAX_SECONDS} seconds allowed"
        if not others:
            return text
        return f"{text}; {others:,} more lie where the {_NUM_ANCHORS} nearest of these do"


def embed(values, seed):
    """Positions by t-SNE, which begins with the first two principal axes.

    Its time is bounded: at most `MAX_IMAGES` take part, drawn by the seed, for so many iterations
    as there is time for. Each other image gets the median position of the nearest of these, which a
    single one in a group far away does not move, and a step aside, so that no two coincide.

    Args:
        values: [n, dim] float32 of unit length.
        seed: int.

    Returns:
        `Embedding`.

    Raises:
        LeftOut: if there are fewer than 10 images.
    """
    if len(values) < _MIN_IMAGES:
        raise LeftOut(
            f"{len(values)} images are too few for a map: give a data set of at least "
            f"{_MIN_IMAGES}."
        )
    rng = np.random.default_rng(seed)
    placed = np.arange(len(values))
    if len(values) > MAX_IMAGES:
        placed = np.sort(rng.choice(len(values), MAX_IMAGES, replace=False))
    positions = np.empty([len(values), 2])
    positions[placed], iterations = _tsne(values[placed])
    others = np.setdiff1d(np.arange(len(values)), placed)
    if len(others):
        _, nearest = similarity.cosine_top_k(values[others], values[placed], _NUM_ANCHORS)
        positions[others] = np.median(positions[placed][nearest], axis=1)
        step = _SIDE_STEP * np.ptp(positions[placed], axis=0).max() / np.sqrt(len(placed))
        positions[others] += rng.normal(scale=step, size=[len(others), 2])
    positions -= positions.min(axis=0)
    return Embedding(positions / max(positions.max(), 1e-12), placed, iterations)


def _tsne(values):
    # Double precision, or the order of summation decides where a dot ends up.
    centred = values - values.mean(axis=0, dtype=np.float64)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    start = centred @ axes[:2].T
    start *= 1e-4 / max(start[:, 0].std(), 1e-12)
    started = time.perf_counter()
    with progress.bar(ITERATIONS, "t-SNE", unit="iterations") as advance:
        positions, done = tsne.embed(
            values, start, perplexity(len(values)), ITERATIONS, MAX_SECONDS, advance
        )
    logging.info("t-SNE of %d images: %.1f s", len(values), time.perf_counter() - started)
    return positions, done
