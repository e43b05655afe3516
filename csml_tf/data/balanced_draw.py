"""A share of a set of images, drawn in equal shares of each class."""

import numpy as np


def draw(num_images, share, labels=None, seed=0):
    """Draws a share of the images, the same share of each class.

    Within its class every image gets a random rank, (position + 1/2) / class size; those
    that rank lowest are drawn. So a class gives its share of its images to within one
    image, and classes too small to give a whole image take turns at random.

    Args:
        num_images: int, at least 1.
        share: of all images, in (0, 1); to the nearest whole image, and at least one.
        labels: [num_images] integers, or None for one class.
        seed: int.

    Returns:
        [num_images] bool, True for the drawn images.

    Example:
        >>> draw(10, 0.4, labels=[0] * 5 + [1] * 5).reshape(2, 5).sum(axis=1)
        array([2, 2])
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(num_images)
    ranks = np.empty(num_images)
    labels = np.zeros(num_images, np.int64) if labels is None else np.asarray(labels)
    for label in np.unique(labels):
        members = order[labels[order] == label]
        ranks[members] = (np.arange(len(members)) + 0.5) / len(members)
    num_drawn = max(1, round(share * num_images))
    lowest = order[np.argsort(ranks[order], kind="stable")[:num_drawn]]
    is_drawn = np.zeros(num_images, bool)
    is_drawn[lowest] = True
    return is_drawn
