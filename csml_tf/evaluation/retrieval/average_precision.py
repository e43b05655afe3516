"""Average precision of whole rankings, of a block of queries at a time."""

import numpy as np

from csml_tf import progress

# Similarities in memory at a time, 256 MB of them, or those of one query if they are more.
_BLOCK_PAIRS = 2**26


def average_precisions(queries, query_labels, gallery, gallery_labels, query_indices=None):
    """How well each query's ranking of the whole gallery has the query's own class in front.

    An image x is relevant if its class is the query's. The average precision is the mean,
    over the relevant images r, of the precision at their similarity:

        mean_r |{relevant x: s(x) >= s(r)}| / |{x: s(x) >= s(r)}|

    The ranking is not cut off anywhere. Images of equal similarity share one rank, so their
    order does not matter, and features that are all alike give the share of relevant images.
    Scikit-learn's `average_precision_score` is the same quantity.

    Args:
        queries: [num_queries, dim] float32, unit length.
        query_labels: [num_queries] integer.
        gallery: [num_images, dim] float32, unit length.
        gallery_labels: [num_images] integer.
        query_indices: [num_queries] integer, which image of the gallery a query is, to be
            left out of its own ranking; None if the gallery has none of the queries.

    Returns:
        [num_queries] float64 in [0, 1]; NaN for a query without a relevant image.

    Example:
        >>> gallery = np.float32([[0.6, 0.8], [1, 0], [0.8, 0.6]])
        >>> average_precisions(np.float32([[1, 0]]), [7], gallery, [7, 0, 7])  # (1/2 + 2/3) / 2
        array([0.58333333])
    """
    # In the order of their classes, so that the relevant images of a query are one slice.
    order = np.argsort(gallery_labels, kind="stable")
    sorted_labels = np.asarray(gallery_labels)[order]
    gallery = gallery[order]
    starts, stops = (np.searchsorted(sorted_labels, query_labels, s) for s in ("left", "right"))
    own = None if query_indices is None else np.argsort(order)[query_indices]
    precisions = np.empty(len(queries))
    block = max(1, _BLOCK_PAIRS // len(gallery))
    with progress.bar(len(queries), "ranking the gallery", unit="queries") as advance:
        for first in range(0, len(queries), block):
            rankings = queries[first : first + block] @ gallery.T
            for query, ranking in enumerate(rankings, first):
                relevant = ranking[starts[query] : stops[query]].copy()
                if own is not None:
                    ranking[own[query]] = relevant[own[query] - starts[query]] = -np.inf
                precisions[query] = _average_precision(ranking, relevant)
            advance(len(rankings))
    return precisions


def _average_precision(ranking, relevant):
    """Of one query; overwrites its arguments, similarities of all and of the relevant images."""
    relevant.sort()
    relevant = relevant[np.searchsorted(relevant, -np.inf, "right") :]
    if not len(relevant):
        return np.nan
    ranking.sort()
    hits = len(relevant) - np.searchsorted(relevant, relevant)
    images = len(ranking) - np.searchsorted(ranking, relevant)
    return np.mean(hits / images)
