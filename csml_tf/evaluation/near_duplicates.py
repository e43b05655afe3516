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
# Measured with an encoder trained on Imagenette, 9,469 and 3,925 photographs: copies of 150, saved
# anew as JPEG of quality 20 to 75 or at two thirds of their size, have at most 0.035 of an ordinary
# neighbor's distance (99 of 100), and of the test images none has less than 0.17. Pixels of 98 of
# 100 copies correlate by 0.98, those of the most similar test image by 0.94.
_DISTANCE_SHARE = 0.1
LEAST_CORRELATION = 0.98
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
        least_cosine: what a pair's cosine had to reach for its pixels to be looked at.
    """

    test_indices: np.ndarray
    train_indices: np.ndarray
    cosines: np.ndarray
    correlations: np.ndarray
    least_cosine: float

    def __len__(self):
        return len(self.test_indices)

    def __str__(self):
        return (
            f"cosine at least {self.least_cosine:.4g}, and pixels that correlate by at least "
            f"{LEAST_CORRELATION:g}"
        )

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

    A pair is looked at if its distance, 1 - cosine, is at most a tenth of an ordinary neighbor's:
    of the median, over the test images, of that of the fifth nearest training image. It is a
    near-duplicate if the pixels of the two views, averaged down to 32 px a side, correlate by at
    least 0.98, one of them mirrored or not.

    Args:
        cosines: [num_test, count] float, of the nearest training images, nearest first.
        indices: [num_test, count] integer, which they are.
        train_source: `ImageSource`.
        test_source: `ImageSource`.
        view: `augment.center_view.CenterView`, to RGB in [0, 1].

    Returns:
        `NearDuplicates`.
    """
    ordinary = np.median(1 - cosines[:, min(ORDINARY_RANK, cosines.shape[1]) - 1])
    least_cosine = float(1 - _DISTANCE_SHARE * ordinary)
    candidates = np.flatnonzero(cosines[:, 0] >= least_cosine)
    partners = indices[candidates, 0]
    correlations = np.zeros(len(candidates))
    if len(candidates):
        tests = _unit_pixels(test_source, candidates, view)
        which, place = np.unique(partners, return_inverse=True)
        trains = _unit_pixels(train_source, which, view)
        mirrored = trains.reshape([-1, *_shape(trains)])[:, :, ::-1].reshape(trains.shape)
        correlations = np.maximum(
            *(np.einsum("nd,nd->n", tests, each[place.ravel()]) for each in (trains, mirrored))
        )
    same = correlations >= LEAST_CORRELATION
    return NearDuplicates(
        *(candidates[same], partners[same].astype(np.int64)),
        *(cosines[candidates[same], 0], correlations[same], least_cosine),
    )


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


def _shape(rows):
    side = round((rows.shape[1] / 3) ** 0.5)
    return side, side, 3


def _name(source, index):
    return source.paths[index] if source.paths else f"{source.name}[{index}]"
