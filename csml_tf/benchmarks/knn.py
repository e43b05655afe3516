"""The nearest neighbors of every row among all others, as mining finds them."""

import time

import numpy as np
import tensorflow as tf

from csml_tf import approximate_search, setting_rules, similarity
from csml_tf.benchmarks import measuring
from csml_tf.errors import InputError

# Rows that are made, or compared in float64, at a time.
_ROWS_AT_ONCE = 8192
_SAMPLE_ROWS = 64


def measure(n, d, k, repeats, seed, approximate=False, clusters=0):
    """Times `similarity.mutual_top_k`, or `approximate_search`, on made-up features.

    Random directions are the worst case for an approximate search: no clusters.

    The first repeat includes what TensorFlow sets up once per process.

    `extra_rss_mb` is by how much the search raises the process's high-water mark, less the
    result. The mark is read when the features stand and nothing larger has stood before: they
    are made in place, a few rows at a time.

    Args:
        n: rows, at least 2.
        d: columns, at least 1.
        k: neighbors per row, from 1 to n - 1.
        repeats: of the search, at least 1; the median counts.
        seed: of the features, at least 0.
        approximate: whether FAISS searches in an inverted file, making it included.
        clusters: 0 for random directions; else as many random directions, around each of which
            an equal share of the rows lies, as `make_features` says.

    Returns:
        dict of n, d, k, approximate and clusters, "seconds" (median), "seconds_spread"
        (median, min, max, n), "peak_rss_mb" (of the process) and "extra_rss_mb" (beyond the
        features and the result; both in 2**20 bytes), "agreement" (share of the exact
        neighbors in float64 that were found, over 64 rows), "recall" (the same in float32 over
        1,000 rows; None where the search is exact) and "tensorflow" (version).

    Raises:
        InputError: if a number is out of range, or FAISS is missing.
    """
    sizes = {"n": n, "d": d, "k": k, "repeats": repeats}
    setting_rules.check({**sizes, "seed": seed, "clusters": clusters})
    if clusters > n:
        raise InputError(f"--clusters must be at most --n, {n}, got {clusters}: lower it.")
    if k >= n:
        raise InputError(f"--k must be below --n, {n}, got {k}: lower it.")
    features = make_features(n, d, seed, clusters)
    search = _search_lists if approximate else similarity.mutual_top_k
    peak_before_mb = measuring.peak_rss_mb()
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        similarities, indices = search(features, k)
        seconds.append(time.perf_counter() - started)
    peak_mb = measuring.peak_rss_mb()
    result_mb = (similarities.nbytes + indices.nbytes) / 2**20
    seconds_spread = measuring.spread(seconds)
    return {
        "bench": "knn",
        "n": n,
        "d": d,
        "k": k,
        "approximate": approximate,
        "clusters": clusters,
        "seconds": seconds_spread["median"],
        "seconds_spread": seconds_spread,
        "peak_rss_mb": round(peak_mb, 1),
        "extra_rss_mb": round(max(peak_mb - peak_before_mb - result_mb, 0.0), 1),
        "agreement": round(agreement(features, indices), 4),
        "recall": _recall(features, indices) if approximate else None,
        "tensorflow": tf.__version__,
    }


def make_features(n, d, seed, clusters=0):
    """[n, d] float32 of unit length: Gaussian rows, so every direction is equally likely.

    With clusters row i is such a direction plus that of cluster i % clusters, so that two rows
    of a cluster have a cosine of 0.5 on average, and others of 0.
    """
    rng = np.random.default_rng(seed)
    centers = rng.standard_normal([clusters, d], np.float32)
    centers /= np.linalg.norm(centers, axis=1, keepdims=True)
    features = np.empty([n, d], np.float32)
    for start in range(0, n, _ROWS_AT_ONCE):
        rows = features[start : start + _ROWS_AT_ONCE]
        rng.standard_normal(dtype=np.float32, out=rows)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        if clusters:
            rows += centers[np.arange(start, start + len(rows)) % clusters]
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return features


def _search_lists(features, k):
    return approximate_search.InvertedFile(features).top_k(k)


def _recall(features, indices):
    return round(approximate_search.measure_recall(features, indices), 4)


def agreement(features, indices):
    """Share of the exact neighbors that are among those found, over a sample of rows.

    Args:
        features: [n, d] float32, unit length.
        indices: [n, k] integer, the neighbors found.

    Returns:
        float in [0, 1]; equally near neighbors may cost some of it.
    """
    num_rows, k = indices.shape
    sample = np.random.default_rng(1).choice(num_rows, min(_SAMPLE_ROWS, num_rows), replace=False)
    exact = np.concatenate(
        [
            features[sample].astype(np.float64) @ features[start : start + _ROWS_AT_ONCE].T
            for start in range(0, num_rows, _ROWS_AT_ONCE)
        ],
        axis=1,
    )
    exact[np.arange(len(sample)), sample] = -np.inf
    nearest = np.argpartition(-exact, k - 1, axis=1)[:, :k]
    found = [np.isin(row, indices[i]).mean() for i, row in zip(sample, nearest)]
    return float(np.mean(found))
