"""Test images that are training images, or nearly: found by embedding, confirmed by pixels."""

import csv
import dataclasses
import io

import numpy as np
import tensorflow as tf

from csml_tf import features
from csml_tf.evaluation import plain_features

# Which of the nearest training images is an ordinary neighbor, whatever the first ones are.
ORDINARY_RANK = 5
# Of an ordinary neighbor's distance: the most that a copy has, in features and in pixels.
# Measured on Imagenette, 9,469 and 3,925 photographs, with an encoder trained on them: copies of
# 150, saved anew as JPEG of quality 20 to 75 or at two thirds of their size, have at most 0.035
# and 0.03 (99 of 100); the nearest test images 0.17 and 0.075. On digits these have 0.066 and 0.08.
_SHARE = 0.05
# Test images whose ordinary neighbors are looked at.
_SAMPLE = 256
_SIDE = 32
# What a figure of the other test images is called, after the figure's own name.
WITHOUT = "_without_near_duplicates"


@dataclasses.dataclass(frozen=True)
class NearDuplicates:
    """Pairs of a test image and a training image that show the same.

    Attributes:
        test_indices: [n] int64, rising.
        train_indices: [n] int64, the nearest training image of each.
        cosines: [n] float, of their features.
        correlations: [n] float, of their pixels.
    """

    test_indices: np.ndarray
    train_indices: np.ndarray
    cosines: np.ndarray
    correlations: np.ndarray

    def __len__(self):
        return len(self.test_indices)

    def __str__(self):
        return f"1 - cosine, and that of pixels, at most {_SHARE:g} of an ordinary neighbor's"

    def describe(self, num_test, figure, scores):
        """A sentence about them.

        Args:
            num_test: test images.
            figure: name of a figure, such as "top1".
            scores: {name: figure}, that without them included unless they are all there is.
        """
        if len(self) == 1:
            found, them = f"1 of {num_test} test images is also a training image, or nearly", "it"
        else:
            found, them = (
                f"{len(self)} of {num_test} test images are also training images, or nearly",
                "them",
            )
        if figure + WITHOUT not in scores:
            return f"{found}: test on images that training has not seen."
        return f"{found}: without {them} {figure} is {scores[figure + WITHOUT]:.2%}."

    def to_csv(self, train_source, test_source):
        """As text: a row for each pair, images by their paths where they have any."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["test_image", "train_image", "cosine", "pixel_correlation"])
        pairs = zip(self.test_indices, self.train_indices, self.cosines, self.correlations)
        for test, train, cosine, pixels in pairs:
            images = _name(test_source, test), _name(train_source, train)
            writer.writerow([*images, f"{cosine:.6f}", f"{pixels:.6f}"])
        return text.getvalue()


def find(cosines, indices, train_source, test_source, view):
    """The test images whose nearest training image shows the same.

    A distance is ordinary if it is that of a test image from its fifth nearest training image, the
    median over the test images. A pair is a near-duplicate if its distance is at most a twentieth
    of that, twice: of the features, 1 - cosine; and of the pixels, 1 - correlation, the views
    averaged down to 32 px a side, one of them mirrored or not.

    Args:
        cosines: [num_test, count] float, of the nearest training images, nearest first.
        indices: [num_test, count] integer, which they are.
        train_source: `ImageSource`.
        test_source: `ImageSource`.
        view: `augment.center_view.CenterView`, to RGB in [0, 1].

    Returns:
        `NearDuplicates`.
    """
    rank = min(ORDINARY_RANK, cosines.shape[1]) - 1
    ordinary = np.median(1 - cosines[:, rank])
    candidates = np.flatnonzero(1 - cosines[:, 0] <= _SHARE * ordinary)
    partners = indices[candidates, 0].astype(np.int64)
    correlations = np.zeros(len(candidates))
    if len(candidates):
        sources = test_source, train_source
        correlations = _correlate(*sources, candidates, partners, view)
        sample = np.unique(np.linspace(0, len(cosines) - 1, _SAMPLE).astype(int))
        ordinary = np.median(1 - _correlate(*sources, sample, indices[sample, rank], view))
    same = 1 - correlations <= _SHARE * ordinary
    return NearDuplicates(
        *(candidates[same], partners[same], cosines[candidates[same], 0], correlations[same])
    )


def _correlate(test_source, train_source, test_indices, train_indices, view):
    """[n] float: of the pixels of pairs; the larger one of an image and its mirror image."""
    tests = _unit_pixels(test_source, test_indices, view)
    which, places = np.unique(train_indices, return_inverse=True)
    trains = _unit_pixels(train_source, which, view)[places.ravel()]
    side = round((trains.shape[1] / 3) ** 0.5)
    mirrored = trains.reshape([-1, side, side, 3])[:, :, ::-1].reshape(trains.shape)
    return np.maximum(*(np.einsum("nd,nd->n", tests, each) for each in (trains, mirrored)))


def _unit_pixels(source, indices, view):
    """[n, side * side * 3] float32: mean 0 and length 1, or all 0 where an image is one color."""

    @tf.function(autograph=False, reduce_retracing=True)
    def encode(images):
        made = plain_features.pixels(images, _SIDE)
        made -= tf.reduce_mean(made, axis=1, keepdims=True)
        length = tf.norm(made, axis=1, keepdims=True)
        # Rounding is no picture.
        return tf.where(length > 1e-3, made / length, 0.0)

    return features.extract_features(
        encode, source.subset(indices), view, description="looking for near-duplicates"
    )


def _name(source, index):
    return source.paths[index] if source.paths else f"{source.name}[{index}]"
