"""The losses of the base methods over a step, as loops in float64, from their definitions."""

import numpy as np


def unit(vectors):
    vectors = np.asarray(vectors, "float64")
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def are_relatives(i, j, pairs):
    return i // 2 == j // 2 if pairs else i == j


def nce(query, positive, negatives, temperature):
    hit = np.exp(query @ positive / temperature)
    strangers = sum(np.exp(query @ key / temperature) for key in negatives)
    return -np.log(hit / (hit + strangers))


def simclr(query, i, targets, weights, temperature, pairs):
    """Of the query of image `i`; targets: [batch, columns, dim], views of anchors first by twos."""
    columns = targets.shape[1]
    of_anchors = range(0, columns, columns // 2)
    strangers = [j for j in range(len(targets)) if not are_relatives(i, j, pairs)]
    negatives = [unit(targets[j, c]) for j in strangers for c in of_anchors]
    return sum(
        weights[c] * nce(unit(query), unit(targets[i, c]), negatives, temperature)
        for c in range(columns)
        if weights[c]
    )


def moco_v3(prediction, i, targets, weights, temperature, pairs):
    columns = targets.shape[1]
    of_a_view = columns // 2
    strangers = [j for j in range(len(targets)) if not are_relatives(i, j, pairs)]
    loss = 0.0
    for c in range(columns):
        same_view = c // of_a_view * of_a_view
        negatives = [unit(targets[j, same_view]) for j in strangers]
        hit = nce(unit(prediction), unit(targets[i, c]), negatives, temperature)
        loss += weights[c] * hit
    return 2 * (2 * temperature * loss)  # The sum over two views, where a mean is taken.


def byol(prediction, i, targets, weights):
    loss = 0.0
    for c, weight in enumerate(weights):
        loss += weight * np.sum((unit(prediction) - unit(targets[i, c])) ** 2)
    return 2 * loss


def sinkhorn(scores, epsilon, iterations):
    """Rows of images, columns of prototypes; one number at a time."""
    shares = np.exp(np.asarray(scores, "float64") / epsilon)
    rows, prototypes = shares.shape
    shares /= shares.sum()
    for _ in range(iterations):
        for k in range(prototypes):
            shares[:, k] /= shares[:, k].sum() * prototypes
        for b in range(rows):
            shares[b] /= shares[b].sum() * rows
    return np.stack([row / row.sum() for row in shares])


def swav(query, i, codes, weights, prototypes, temperature):
    logits = unit(prototypes) @ unit(query) / temperature
    log_shares = logits - np.log(np.exp(logits).sum())
    return -sum(weight * codes[i, c] @ log_shares for c, weight in enumerate(weights))


def numeric_gradient(function, arrays, step=1e-5):
    """Central differences: {name: gradient} of a scalar function of {name: array}."""
    gradients = {}
    for name, array in arrays.items():
        gradient = np.zeros(array.shape)
        for index in np.ndindex(*array.shape):
            sides = []
            for sign in (1, -1):
                moved = array.astype("float64").copy()
                moved[index] += sign * step
                sides.append(function({**arrays, name: moved}))
            gradient[index] = (sides[0] - sides[1]) / (2 * step)
        gradients[name] = gradient
    return gradients
