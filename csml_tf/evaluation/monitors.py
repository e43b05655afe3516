"""Accuracy of a linear classifier on the query encoder's features while it trains."""

import dataclasses
import time

from csml_tf.evaluation import accuracy, labelled_pair
from csml_tf.evaluation.linear import cached, logistic_regression


@dataclasses.dataclass(frozen=True)
class LinearProtocol:
    """What has to be said beside a figure of `LinearEvaluation`.

    Attributes:
        l2: strength.
        layer: what the features are.
        train: name and size of the set that is trained on.
        test: name and size of the set that is classified.
        view: how an image is brought to the network's size.
    """

    l2: float
    layer: str
    train: str
    test: str
    view: str

    def __str__(self):
        return (
            f"logistic regression at its optimum, l2={self.l2:g}, layer={self.layer}, "
            f"standardised, {self.view}; trained on: {self.train}; tested on: {self.test}"
        )


class LinearEvaluation:
    """Logistic regression on one pair of labelled sources, for any number of encoders.

    Args:
        train_source: labelled `ImageSource` to train on.
        test_source: labelled `ImageSource` to be tested on.
        center_view: `augment.center_view.CenterView`.
        l2: strength, above 0.

    Raises:
        InputError: if the labels do not fit, or the strength is not above 0.
    """

    def __init__(self, train_source, test_source, center_view, l2=1e-3):
        self._num_classes = labelled_pair.check(train_source, test_source)
        cached.check_strength(l2)
        self._train_source = train_source
        self._test_source = test_source
        self._center_view = center_view
        self._l2 = l2

    def protocol(self, layer):
        """The `LinearProtocol` of a figure measured on features of that name."""
        return LinearProtocol(
            self._l2,
            layer,
            f"{self._train_source.name}, {len(self._train_source)} images",
            f"{self._test_source.name}, {len(self._test_source)} images",
            str(self._center_view),
        )

    def top1(self, encode):
        """Top-1 accuracy in [0, 1] of the features that `encode` makes of a batch of images."""
        sources = self._train_source, self._test_source
        train, test = cached.extract(encode, *sources, self._center_view)
        fit = logistic_regression.fit(train, self._train_source.labels, self._num_classes, self._l2)
        return accuracy.top_k(fit.rank(test, 1), self._test_source.labels, 1)


class LinearMonitor:
    """Fits a linear classifier every few epochs and tests it on held-out images.

    The features are the pooled ones of the last stage, in inference mode, as exported.

    Args:
        evaluation: `LinearEvaluation`.
        every_epochs: between two measurements; the last epoch is always measured. 0 measures
            never.

    Raises:
        ValueError: if `every_epochs` is below 0.
    """

    def __init__(self, evaluation, every_epochs=0):
        if every_epochs < 0:
            raise ValueError(f"every_epochs must be at least 0, got {every_epochs}.")
        self._evaluation = evaluation
        self._every_epochs = every_epochs

    def is_due(self, finished_epochs, epochs):
        """Whether to measure after this many epochs."""
        if not self._every_epochs:
            return False
        return finished_epochs % self._every_epochs == 0 or finished_epochs == epochs

    def measure(self, encoder):
        """-> {"linear_top1": in [0, 1], "linear_protocol": text, "linear_seconds": float}."""
        started = time.perf_counter()
        return {
            "linear_top1": self._evaluation.top1(encoder.pooled_features),
            "linear_protocol": str(self._evaluation.protocol("features")),
            "linear_seconds": time.perf_counter() - started,
        }
