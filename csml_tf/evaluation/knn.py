"""Weighted kNN classification on frozen features, Wu et al., arXiv:1805.01978."""

import dataclasses

import numpy as np

from csml_tf import features, similarity
from csml_tf.errors import InputError

# The usual number of neighbours, and the one for sets too small for it.
_LARGE_SET_K = 200
_SMALL_SET_K = 20
_SMALL_SET_IMAGES = 10_000


@dataclasses.dataclass(frozen=True)
class KnnProtocol:
    """What has to be said beside a kNN figure.

    Attributes:
        k: neighbours that vote.
        temperature: of the votes' weights, exp(cosine / temperature).
        layer: what the features are.
        train: name and size of the set that votes.
        test: name and size of the set that is classified.
        view: how an image is brought to the network's size.
    """

    k: int
    temperature: float
    layer: str
    train: str
    test: str
    view: str

    def __str__(self):
        return (
            f"k={self.k}, temperature={self.temperature}, layer={self.layer}, cosine, "
            f"{self.view}; votes: {self.train}; tested on: {self.test}"
        )


class KnnEvaluation:
    """kNN on one pair of labelled sources, for any number of encoders.

    Args:
        train_source: labelled `ImageSource` whose images vote.
        test_source: labelled `ImageSource` to classify.
        center_view: `augment.center_view.CenterView`.
        k: neighbours that vote; None takes 200, or 20 if fewer than 10,000 vote.
        temperature: of the votes' weights, above 0.

    Raises:
        InputError: if labels are missing, k is larger than the voting set, or the
            temperature is not above 0.
    """

    def __init__(self, train_source, test_source, center_view, k=None, temperature=0.1):
        for source in (train_source, test_source):
            if source.labels is None:
                raise InputError(
                    f"kNN needs labels, and {source.name} has none: give a data set with labels, "
                    "such as a folder with one sub-folder per class."
                )
        if k is None:
            k = _SMALL_SET_K if len(train_source) < _SMALL_SET_IMAGES else _LARGE_SET_K
        if not 1 <= k <= len(train_source):
            raise InputError(
                f"k must be from 1 to the {len(train_source)} images of {train_source.name}, "
                f"got {k}."
            )
        if temperature <= 0:
            raise InputError(f"The temperature must be above 0, got {temperature}.")
        self._train_source = train_source
        self._test_source = test_source
        self._center_view = center_view
        self._k = k
        self._temperature = temperature

    def protocol(self, layer):
        """The `KnnProtocol` of a figure measured on features of that name."""
        view = self._center_view
        return KnnProtocol(
            self._k,
            self._temperature,
            layer,
            f"{self._train_source.name}, {len(self._train_source)} images",
            f"{self._test_source.name}, {len(self._test_source)} images",
            f"shorter side {view.resize_size} px, centre {view.image_size} px",
        )

    def top1(self, encode):
        """Top-1 accuracy in [0, 1] of the features that `encode` makes of a batch of images."""
        train, test = (
            features.extract_features(
                encode, source, self._center_view, description=f"features of {source.name}"
            )
            for source in (self._train_source, self._test_source)
        )
        predicted = classify(train, self._train_source.labels, test, self._k, self._temperature)
        return float(np.mean(predicted == self._test_source.labels))


def classify(train_features, train_labels, test_features, k, temperature):
    """The class with the largest sum of exp(cosine / temperature) over the k nearest.

    Args:
        train_features: [num_train, dim] float; normalised here.
        train_labels: [num_train] integer from 0.
        test_features: [num_test, dim] float; normalised here.
        k: neighbours that vote, at most num_train.
        temperature: above 0.

    Returns:
        [num_test] integer labels; of classes with equal votes the first.

    Raises:
        ValueError: if `temperature` is not above 0 or k is out of range.
    """
    if temperature <= 0:
        raise ValueError(f"temperature must be above 0, got {temperature}.")
    similarities, indices = similarity.cosine_top_k(
        similarity.l2_normalize(test_features), similarity.l2_normalize(train_features), k
    )
    train_labels = np.asarray(train_labels)
    # Against the nearest one: the same order of votes, and no overflow at a low temperature.
    weights = np.exp((similarities - similarities[:, :1]) / temperature)
    votes = np.zeros([len(indices), train_labels.max() + 1])
    rows = np.arange(len(indices))[:, None]
    np.add.at(votes, (rows, train_labels[indices]), weights)
    return votes.argmax(axis=1)
