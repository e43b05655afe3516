"""How often a classifier is right, from its ranking of the classes."""

import numpy as np


def top_k(ranked, labels, k):
    """Share of images whose true class is among the first k of their ranking.

    Args:
        ranked: [num_images, count] integer, classes, best first.
        labels: [num_images] integer.
        k: int, at most `count`.

    Returns:
        float in [0, 1].

    Example:
        >>> top_k(np.array([[2, 0], [1, 2]]), [0, 1], k=1)
        0.5
    """
    return float(np.mean((ranked[:, :k] == np.asarray(labels)[:, None]).any(axis=1)))


def confusion_matrix(labels, predicted, num_classes):
    """How many images of each class (row) were taken for each class (column).

    Args:
        labels: [num_images] integer in [0, num_classes).
        predicted: [num_images] integer, the same.
        num_classes: int.

    Returns:
        [num_classes, num_classes] integer.

    Example:
        >>> confusion_matrix([0, 0, 1], [0, 1, 1], num_classes=2)
        array([[1, 1],
               [0, 1]])
    """
    cells = np.asarray(labels) * num_classes + np.asarray(predicted)
    return np.bincount(cells, minlength=num_classes**2).reshape([num_classes, num_classes])
