"""Approximate nearest neighbors by cosine similarity, for more rows than can all be compared.

FAISS does the search, which is installed with the extra [faiss].
"""

from __future__ import annotations

import math
from typing import Any, Callable, Optional

import numpy as np
from absl import logging

from csml_tf import similarity
from csml_tf.errors import InputError

OnRows = Optional[Callable[[int], Any]]

# Lists for each square root of the number of rows, by FAISS' guidelines (4 to 16); and the rows
# of each list that k-means sees, of which FAISS asks for 39 at least.
_LISTS_PER_ROOT = 4
_ROWS_PER_LIST = 40
_KMEANS_ITERATIONS = 10
_SEED = 0
# Lists that a query looks through: a share of them would be a share of all pairs again.
_PROBES = 32
# A query ends early after this many times the rows that its lists hold on average: where
# features are about to collapse, one list holds most of them.
_MOST_ROWS = 8
# Rows that are added or looked up at a time; between them a signal may end the search.
_ROWS_AT_ONCE = 8192
# Rows that are searched exactly at a time, since they are copied.
_EXACT_AT_ONCE = 65536
_SAMPLE_ROWS = 1000


def import_faiss(wanted_for: str, instead: str) -> Any:
    """The module `faiss`.

    Args:
        wanted_for: what needs it, the beginning of a sentence.
        instead: what to do without it, the sentence's end.

    Raises:
        InputError: if it cannot be imported.
    """
    try:
        import faiss
    except ImportError as error:
        raise InputError(
            f"{wanted_for} needs FAISS, which is not here ({error}): pip install 'csml_tf[faiss]', "
            f"or {instead}."
        ) from error
    return faiss


def choose_lists(num_rows: int) -> tuple[int, int]:
    """How many lists the rows are parted into, and how many of them a query looks through.

    Args:
        num_rows: at least 1.

    Returns:
        (num_lists, num_probes), both at least 1: four times the square root of the rows, and 32;
        fewer where the rows are too few for that.

    Example:
        >>> choose_lists(2_000_000), choose_lists(10_000), choose_lists(20)
        ((5657, 32), (250, 32), (1, 1))
    """
    wanted = round(_LISTS_PER_ROOT * math.sqrt(num_rows))
    num_lists = max(1, min(wanted, num_rows // _ROWS_PER_LIST))
    return num_lists, min(num_lists, _PROBES)


class InvertedFile:
    """An index of features: rows in lists by their nearest centroid, of spherical k-means.

    A query is compared with the rows of those lists only whose centroids are most similar to it
    (FAISS' IVF-Flat, Johnson et al., arXiv:1702.08734, section 2). The same features give the same
    index and the same neighbors, on any number of threads of one machine.

    Memory beyond the features: dim * 4 + 8 bytes for each row, at times more while it is made.

    Args:
        features: [num_rows, dim] float32, unit length; kept, not copied, and not to be changed.
        on_rows: called now and then with the number of rows that the work since amounts to; the
            numbers add up to num_rows.

    Raises:
        InputError: if FAISS is not installed.
        ValueError: if a feature is not finite.
    """

    def __init__(self, features: np.ndarray, on_rows: OnRows = None):
        faiss = import_faiss("An approximate search", "search exactly")
        if not all(np.isfinite(features[rows]).all() for rows in _parts(len(features))):
            raise ValueError("The features hold a number that is not finite.")
        self._features = features
        num_rows, dim = features.shape
        num_lists, num_probes = choose_lists(num_rows)
        sample = _draw(num_rows, _ROWS_PER_LIST * num_lists)
        count = _Counter(num_rows, _KMEANS_ITERATIONS * len(sample) + num_rows, on_rows)
        centroids = _find_centroids(faiss, features[sample], num_lists, count)
        self._quantizer = faiss.IndexFlatIP(dim)
        self._quantizer.add(centroids)
        self._index = faiss.IndexIVFFlat(
            self._quantizer, dim, num_lists, faiss.METRIC_INNER_PRODUCT
        )
        self._index.train(centroids)  # They are there: it only takes note.
        self._index.nprobe = num_probes
        self._index.max_codes = _MOST_ROWS * math.ceil(num_probes * num_rows / num_lists)
        for rows in _parts(num_rows):
            self._index.add(features[rows])
            count(rows.stop - rows.start)

    def top_k(
        self, k: int, rows: slice | None = None, on_rows: OnRows = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """About the k rows most similar to each row among all others, nearest first.

        A row for which the lists hold fewer than k others is searched exactly.

        Args:
            k: neighbors per row, from 1 to num_rows - 1.
            rows: slice, with start and stop, of the rows that seek neighbors; None for all.
            on_rows: called now and then with the number of rows that have been looked up; the
                numbers add up to theirs.

        Returns:
            (similarities [rows, k] float32 in [-1, 1], indices [rows, k] int32 in
            [0, num_rows)); never the row itself, by its index: another row with the same
            features stays. Equally similar rows come in any order.

        Raises:
            ValueError: if there are fewer than k other rows.
        """
        others = len(self._features) - 1
        if not 1 <= k <= others:
            raise ValueError(f"k must be from 1 to the {others} other rows, got {k}.")
        own = np.arange(len(self._features))[rows or slice(None)]
        similarities = np.empty([len(own), k], np.float32)
        indices = np.empty([len(own), k], np.int32)
        for part in _parts(len(own)):
            # One more, because the row itself is among them, unless k copies of it come first.
            found = self._index.search(self._features[own[part]], k + 1)
            similarities[part], indices[part] = _others(*found, own[part])
            if on_rows is not None:
                on_rows(part.stop - part.start)
        short = np.flatnonzero((indices < 0).any(axis=1))
        if len(short):
            logging.warning(
                "%d of %d rows have fewer than %d neighbors in the lists that are nearest to "
                "them, as when features collapse: they are compared with all rows.",
                *(len(short), len(own), k),
            )
        for start in range(0, len(short), _EXACT_AT_ONCE):
            part = short[start : start + _EXACT_AT_ONCE]
            similarities[part], indices[part] = similarity.cosine_top_k(
                self._features[own[part]], self._features, k, own[part]
            )
        return similarities, indices


def measure_recall(
    features: np.ndarray, neighbor_indices: np.ndarray, sample_rows: int = _SAMPLE_ROWS
) -> float:
    """Share of the exact nearest neighbors that a table holds, over a sample of its rows.

    Recall at k: the mean over the sample of |found and exact| / k. Of rows that are
    equally near as the k-th, the exact search takes the one of the lowest index.

    Args:
        features: [num_rows, dim] float32, unit length.
        neighbor_indices: [num_rows, k] integer, none of them the row's own.
        sample_rows: at least 1; drawn without replacement, always the same ones.

    Returns:
        float in [0, 1].

    Example:
        >>> features = np.float32([[1, 0], [0.8, 0.6], [0, 1], [-1, 0]])
        >>> measure_recall(features, np.array([[1], [0], [1], [1]]))  # The last: it is 2.
        0.75
    """
    sample = _draw(len(features), sample_rows)
    k = neighbor_indices.shape[1]
    _, exact = similarity.cosine_top_k(features[sample], features, k, sample)
    is_found = (exact[:, :, None] == neighbor_indices[sample][:, None, :]).any(axis=2)
    return float(is_found.mean())


class _Counter:
    """Tells of `total` units of work as if they were `num_rows` rows."""

    def __init__(self, num_rows, total, on_rows):
        self._num_rows, self._total, self._on_rows = num_rows, total, on_rows
        self._done = 0

    def __call__(self, units):
        before, after = self._done, self._done + units
        self._done = after
        if self._on_rows is not None:
            self._on_rows(
                after * self._num_rows // self._total - before * self._num_rows // self._total
            )


def _find_centroids(faiss, sample, num_lists, count):
    """[num_lists, dim] float32 of unit length; `count` is called with the rows of each pass."""
    centroids = None
    for _ in range(_KMEANS_ITERATIONS):  # One at a time, to tell how far it is.
        kmeans = faiss.Kmeans(
            *(sample.shape[1], num_lists),
            niter=1,
            spherical=True,
            seed=_SEED,
            # Lists are chosen by the rows that are there: no warning, and no further draw.
            min_points_per_centroid=1,
            max_points_per_centroid=len(sample),
        )
        kmeans.train(sample, init_centroids=centroids)
        centroids = kmeans.centroids
        count(len(sample))
    return centroids


def _others(similarities, indices, own):
    """The first k of k + 1 that are not the row's own index, in order."""
    is_own = indices == own[:, None]
    kept = np.argsort(is_own, axis=1, kind="stable")[:, :-1]
    return tuple(np.take_along_axis(found, kept, axis=1) for found in (similarities, indices))


def _draw(num_rows, count):
    """`count` row numbers, or all there are, ascending; the same ones each time."""
    rng = np.random.default_rng(_SEED)
    return np.sort(rng.choice(num_rows, min(count, num_rows), replace=False))


def _parts(num_rows):
    return [
        slice(start, min(start + _ROWS_AT_ONCE, num_rows))
        for start in range(0, num_rows, _ROWS_AT_ONCE)
    ]
