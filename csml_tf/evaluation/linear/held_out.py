"""Choosing a setting without a look at the test images: on a part of the training images."""

import numpy as np

from csml_tf.data import catalog

# For a protocol card.
CHOICE = "by top-1 on a held-out fifth of train, then trained on all of train"
NO_CHOICE = "none, one value given"
_SEED = 0


def draw(labels):
    """Which images are held out: a fifth, in equal shares of each class, always the same.

    Args:
        labels: [num_images] integer, of at least 2 training images.

    Returns:
        [num_images] bool, True where held out.
    """
    return catalog.draw_test_images(len(labels), labels, _SEED)


def choose(accuracies):
    """The place of the best setting; of equally good ones the first.

    Args:
        accuracies: [num_settings] or [num_seeds, num_settings] float, on held-out images;
            the mean over seeds decides.

    Returns:
        int in [0, num_settings).
    """
    accuracies = np.asarray(accuracies)
    return int(np.argmax(accuracies.reshape([-1, accuracies.shape[-1]]).mean(axis=0)))
