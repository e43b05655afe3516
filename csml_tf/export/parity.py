"""How far the features of an export are from those of the model that it was made of."""

import numpy as np


def compare(expected, found, images):
    """Two sets of features of the same images, row by row.

    Args:
        expected: [num_images, dim] float, of the model.
        found: [num_images, dim] float, of its export.
        images: what they are of, in words.

    Returns:
        dict: "images", "max_abs_difference", "max_abs_feature", "cosine_min" and
        "cosine_mean" over the rows, and "text", all of it in a sentence.
    """
    expected, found = np.asarray(expected, np.float64), np.asarray(found, np.float64)
    products = np.sum(expected * found, axis=1)
    norms = np.linalg.norm(expected, axis=1) * np.linalg.norm(found, axis=1)
    cosines = products / np.maximum(norms, np.finfo(np.float64).tiny)
    difference, largest = np.abs(expected - found).max(), np.abs(expected).max()
    return {
        "images": images,
        "max_abs_difference": float(difference),
        "max_abs_feature": float(largest),
        "cosine_min": float(cosines.min()),
        "cosine_mean": float(cosines.mean()),
        "text": (
            f"features differ by at most {difference:.2g}, the largest being {largest:.3g}; "
            f"cosine at least {cosines.min():.6f}, {cosines.mean():.6f} on average ({images})"
        ),
    }
