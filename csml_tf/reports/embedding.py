"""Where images lie on a map: those with similar features close together, in bounded time."""

import contextlib
import dataclasses
import io
import re
import time
import warnings

import numpy as np
from absl import logging

from csml_tf import progress, similarity
from csml_tf.reports.part import LeftOut

# Of those that t-SNE places: its time grows faster than their number.
MAX_IMAGES = 1500
_MIN_IMAGES = 10
_PERPLEXITY = 30
ITERATIONS = 500
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
    """

    positions: np.ndarray
    placed: np.ndarray

    def describe(self):
        """How the positions came about, in words."""
        count, others = len(self.placed), len(self.positions) - len(self.placed)
        text = (
            f"t-SNE of {count:,} images, perplexity {perplexity(count):g}, {ITERATIONS} iterations"
        )
        if not others:
            return text
        return f"{text}; {others:,} more lie where the {_NUM_ANCHORS} nearest of these do"


def embed(values, seed):
    """Positions by t-SNE of scikit-learn, which begins with the first two principal axes.

    Its time is bounded: at most `MAX_IMAGES` take part, drawn by the seed, for a fixed number
    of iterations. Each other image gets the median position of the nearest of these, which a
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
    positions[placed] = _tsne(values[placed], seed)
    others = np.setdiff1d(np.arange(len(values)), placed)
    if len(others):
        _, nearest = similarity.cosine_top_k(values[others], values[placed], _NUM_ANCHORS)
        positions[others] = np.median(positions[placed][nearest], axis=1)
        step = _SIDE_STEP * np.ptp(positions[placed], axis=0).max() / np.sqrt(len(placed))
        positions[others] += rng.normal(scale=step, size=[len(others), 2])
    positions -= positions.min(axis=0)
    return Embedding(positions / max(positions.max(), 1e-12), placed)


def _tsne(values, seed):
    from sklearn import manifold  # It takes a second to import.

    # Double precision, or the order of summation decides where a dot ends up.
    centred = values - values.mean(axis=0, dtype=np.float64)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    start = centred @ axes[:2].T
    start *= 1e-4 / max(start[:, 0].std(), 1e-12)  # As scikit-learn starts from them itself.
    model = manifold.TSNE(
        perplexity=perplexity(len(values)),
        init=start.astype(np.float32),
        learning_rate="auto",
        random_state=seed,
        verbose=2,
    )
    # The name of the number of iterations differs between versions.
    name = "max_iter" if "max_iter" in model.get_params() else "n_iter"
    model.set_params(**{name: ITERATIONS})
    started = time.perf_counter()
    with (
        progress.bar(ITERATIONS, "t-SNE", unit="iterations") as advance,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", FutureWarning)  # Of defaults that are set here.
        with contextlib.redirect_stdout(_IterationListener(advance)):
            positions = model.fit_transform(values)
    logging.info("t-SNE of %d images: %.1f s", len(values), time.perf_counter() - started)
    return positions


class _IterationListener(io.StringIO):
    """Moves a bar by the lines that t-SNE prints, every 50 iterations."""

    def __init__(self, advance):
        super().__init__()
        self._advance = advance
        self._done = 0

    def write(self, text):
        for found in re.findall(r"Iteration (\d+):", text):
            self._advance(int(found) - self._done)
            self._done = int(found)
        return len(text)
