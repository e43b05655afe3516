"""t-SNE of some thousand points, exact and on one core, that stops when its time is up.

L. van der Maaten and G. Hinton, "Visualizing Data using t-SNE", JMLR 9 (2008). Settings that are
no arguments here are those of scikit-learn's TSNE, which cannot be stopped.
"""

import time

import numpy as np

_EXAGGERATION = 12.0
_EXAGGERATED_ITERATIONS = 250
_MOMENTA = (0.5, 0.8)  # While exaggerated, and then.
_LEAST_LEARNING_RATE = 50.0
_LEAST_GAIN = 0.01
# Steps of halving the range of the logarithm of each point's precision, and that range.
_HALVINGS = 50
_LOG_PRECISIONS = (-10.0, 40.0)


def embed(values, start, perplexity, iterations, seconds, on_iteration=lambda count: None):
    """Positions at which the affinities in the plane are like those of the points.

    Args:
        values: [n, dim] float.
        start: [n, 2] float, positions to begin with, of a standard deviation of about 1e-4.
        perplexity: float, above 1 and below n; how many neighbors count, about.
        iterations: at most so many.
        seconds: float; no iteration begins later than that.
        on_iteration: called with 1 after each.

    Returns:
        ([n, 2] float32 positions, number of iterations done, at least 1).
    """
    deadline = time.perf_counter() + seconds
    joint = joint_affinities(values, perplexity)
    exaggerated = joint * _EXAGGERATION
    rate = max(len(values) / _EXAGGERATION / 4, _LEAST_LEARNING_RATE)
    positions = np.array(start, np.float32)
    update, gains = np.zeros_like(positions), np.ones_like(positions)
    for done in range(1, iterations + 1):
        is_early = done <= _EXAGGERATED_ITERATIONS
        slope = gradient(positions, exaggerated if is_early else joint)
        goes_on = update * slope < 0
        gains = np.maximum(np.where(goes_on, gains + 0.2, gains * 0.8), _LEAST_GAIN)
        update = _MOMENTA[not is_early] * update - rate * gains * slope
        positions = positions + update
        on_iteration(1)
        if time.perf_counter() > deadline:
            break
    return positions, done


def joint_affinities(values, perplexity):
    """How near each two points are, as a share of all pairs.

        p[j | i] = exp(-b[i] |v[i] - v[j]|^2) / sum over k != i of exp(-b[i] |v[i] - v[k]|^2)
        joint[i, j] = (p[j | i] + p[i | j]) / (2 n)

    with each precision b[i] such that the entropy of p[. | i] is log(perplexity).

    Args:
        values: [n, dim] float.
        perplexity: float.

    Returns:
        [n, n] float32, symmetric, 0 on the diagonal; the sum is 1.
    """
    distances = _square_distances(np.asarray(values, np.float32))
    np.fill_diagonal(distances, np.inf)
    distances -= distances.min(axis=1, keepdims=True)  # Else all of a row may round to 0.
    np.fill_diagonal(distances, 0)
    low, high = (np.full(len(distances), end) for end in _LOG_PRECISIONS)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        conditional, entropies = _conditional(distances, np.exp(middle))
        is_wide = entropies > np.log(perplexity)
        low, high = np.where(is_wide, middle, low), np.where(is_wide, high, middle)
    return (conditional + conditional.T) / (2 * len(distances))


def gradient(positions, joint):
    """Of the divergence of the affinities in the plane, q, from those of the points.

        q[i, j] = w[i, j] / sum of all w,  w[i, j] = 1 / (1 + |y[i] - y[j]|^2) for i != j
        divergence = sum over i != j of joint[i, j] log(joint[i, j] / q[i, j])

    Args:
        positions: y, [n, 2] float32.
        joint: [n, n] float32.

    Returns:
        [n, 2] float32.
    """
    weights = _square_distances(positions)
    weights += 1
    np.reciprocal(weights, out=weights)
    np.fill_diagonal(weights, 0)
    pull = weights * (-1 / weights.sum())
    pull += joint
    pull *= weights
    return 4 * (pull.sum(axis=1, keepdims=True) * positions - pull @ positions)


def _conditional(distances, precisions):
    """([n, n] p[j | i] in row i, [n] entropy of each row in nats)."""
    weights = np.exp(-distances * precisions[:, None].astype(np.float32))
    np.fill_diagonal(weights, 0)
    sums = weights.sum(axis=1)
    mean_distances = np.einsum("ij,ij->i", distances, weights) / sums
    return weights / sums[:, None], np.log(sums) + precisions * mean_distances


def _square_distances(points):
    """[n, dim] -> [n, n], 0 or more."""
    norms = np.einsum("ij,ij->i", points, points)
    distances = points @ (-2 * points.T)
    distances += norms[:, None]
    distances += norms
    return np.maximum(distances, 0, out=distances)
