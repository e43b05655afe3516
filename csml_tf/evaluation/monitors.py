"""Accuracy of the query encoder while it trains: by its neighbors, and by a linear classifier."""

from __future__ import annotations

import time
from typing import Callable

import tensorflow as tf
from absl import logging

from csml_tf import setting_rules
from csml_tf.augment.center_view import CenterView
from csml_tf.evaluation import accuracy, baselines, knn, labelled_pair
from csml_tf.evaluation.linear import cached, logistic_regression
from csml_tf.models import untrained_copy
from csml_tf.models.backbones import contract
from csml_tf.models.encoder import pool

LAYERS = ("features", "embedding")


class _Evaluation:
    """Accuracy on one pair of labelled sources, for any number of encoders."""

    def __init__(self, train_source, test_source, center_view):
        self._num_classes = labelled_pair.check(train_source, test_source)
        self._train_source = train_source
        self._test_source = test_source
        self._center_view = center_view

    @property
    def num_images(self) -> int:
        """How many images are encoded for an accuracy."""
        return len(self._train_source) + len(self._test_source)

    def _describe_images(self, use):
        """View and sources in words; `use` says what the training images do."""
        train, test = (
            f"{source.name}, {len(source)} images"
            for source in (self._train_source, self._test_source)
        )
        return f"{self._center_view}; {use}: {train}; tested on: {test}"


class KnnEvaluation(_Evaluation):
    """kNN on one pair of labelled sources, for any number of encoders.

    Args:
        train_source: labelled `ImageSource` whose images vote.
        test_source: labelled `ImageSource` to classify.
        center_view: `augment.center_view.CenterView`.
        k: neighbors that vote; None takes 200, or 20 if fewer than 10,000 vote. Where there are
            not as many images, all of them vote.
        temperature: of the votes' weights, above 0.

    Raises:
        InputError: if the labels do not fit, k is below 1, or the temperature is not above 0.
    """

    def __init__(self, train_source, test_source, center_view, k=None, temperature=0.1):
        super().__init__(train_source, test_source, center_view)
        if k is not None and k > len(train_source):  # A recipe's is meant for its own data.
            logging.warning(
                "kNN during training: the recipe's k of %d is more than the %d images of %s: all "
                "of them vote.",
                *(k, len(train_source), train_source.name),
            )
            k = len(train_source)
        self._k = knn.choose_k(k, train_source)
        setting_rules.check({"temperature": temperature})
        self._temperature = temperature

    def protocol(self, layer: str) -> str:
        """What has to be said beside a figure measured on features of that name."""
        return (
            f"k={self._k}, temperature={self._temperature}, layer={layer}, cosine, "
            f"{self._describe_images('votes')}"
        )

    def top1(self, encode: Callable, center_view: CenterView | None = None) -> float:
        """Top-1 accuracy in [0, 1] of the features that `encode` makes of a batch of images.

        Args:
            encode: as for `features.extract_features`.
            center_view: that the images are seen by; None for that of the evaluation.
        """
        sources = self._train_source, self._test_source
        train, test = labelled_pair.extract(encode, *sources, center_view or self._center_view)
        labels, options = self._train_source.labels, (self._k, self._temperature)
        predicted = knn.classify(train, labels, test, *options)
        return accuracy.top_k(predicted[:, None], self._test_source.labels, 1)

    def baselines(self, backbone: tf.keras.Model) -> dict[str, float]:
        """What the encoder has to beat, by this evaluation.

        Args:
            backbone: of the encoder, as `models.backbones.contract` describes it; only its layers
                count.

        Returns:
            {name out of `baselines.NAMES`: top-1 accuracy in [0, 1]}; of untrained weights the
            mean over `baselines.DRAWS`, of their pooled features.
        """
        view = self._center_view
        plain_view = CenterView(view.image_size, view.resize_size, (0.0,) * 3, (1.0,) * 3)
        figures = {
            name: self.top1(encode, plain_view) for name, encode in baselines.make_plain().items()
        }
        draws = []
        for seed in range(baselines.DRAWS):
            network = untrained_copy.make(backbone, seed)
            draws.append(self.top1(_pooled_features(network, contract.last_stage(backbone))))
        return {**figures, "untrained": sum(draws) / len(draws)}


def _pooled_features(backbone, stage):
    """The function of images to the pooled features of a stage, in inference mode."""
    return tf.function(
        lambda images: pool(backbone(images, training=False)[stage]),
        autograph=False,
        reduce_retracing=True,
    )


class LinearEvaluation(_Evaluation):
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
        super().__init__(train_source, test_source, center_view)
        setting_rules.check({"l2": l2})
        self._l2 = l2

    def protocol(self, layer: str) -> str:
        """What has to be said beside a figure measured on features of that name."""
        return (
            f"logistic regression at its optimum, l2={self._l2:g}, layer={layer}, "
            f"standardised, {self._describe_images('trained on')}"
        )

    def top1(self, encode: Callable) -> float:
        """Top-1 accuracy in [0, 1] of the features that `encode` makes of a batch of images."""
        sources = self._train_source, self._test_source
        train, test = cached.extract(encode, *sources, self._center_view)
        fit = logistic_regression.fit(train, self._train_source.labels, self._num_classes, self._l2)
        return accuracy.top_k(fit.rank(test, 1), self._test_source.labels, 1)


class _Monitor:
    """Measures every few epochs, and after the last; with `every_epochs` 0, never."""

    def __init__(self, evaluation, every_epochs):
        self._evaluation = evaluation
        self._every_epochs = every_epochs

    @property
    def num_images(self) -> int:
        """How many images are encoded for a measurement."""
        return self._evaluation.num_images

    def is_due(self, finished_epochs: int, epochs: int) -> bool:
        """Whether to measure after this many epochs."""
        if not self._every_epochs:
            return False
        return finished_epochs % self._every_epochs == 0 or finished_epochs == epochs

    def _measure(self, name, encode, layer):
        started = time.perf_counter()
        return {
            f"{name}_top1": self._evaluation.top1(encode),
            f"{name}_protocol": self._evaluation.protocol(layer),
            f"{name}_seconds": time.perf_counter() - started,
        }


class KnnMonitor(_Monitor):
    """Measures kNN on held-out images every few epochs, in inference mode.

    Args:
        evaluation: `KnnEvaluation`.
        layer: "features" (pooled features of the last stage, as exported) or
            "embedding" (output of the last level's head, as MoCo's CIFAR demo does).
        every_epochs: between two measurements; the last epoch is always measured.

    Raises:
        ValueError: if an argument is outside the above.
    """

    def __init__(self, evaluation, layer="features", every_epochs=1):
        if layer not in LAYERS:
            raise ValueError(f"layer must be one of {LAYERS}, got {layer!r}.")
        if every_epochs < 1:
            raise ValueError(f"every_epochs must be at least 1, got {every_epochs}.")
        super().__init__(evaluation, every_epochs)
        self._layer = layer

    def baselines(self) -> KnnBaselines:
        """What measures the baselines by the same evaluation."""
        return KnnBaselines(self._evaluation, self._every_epochs)

    def measure(self, encoder) -> dict:
        """-> {"knn_top1": accuracy in [0, 1], "knn_protocol": text, "knn_seconds": float}."""
        encode = encoder.pooled_features if self._layer == "features" else encoder.embedding
        return self._measure("knn", encode, self._layer)


class KnnBaselines:
    """Measures what the encoder has to beat, once in a run: when kNN is measured first.

    They are the same throughout a run. Nothing that the training draws or computes depends on
    them.

    Args:
        evaluation: `KnnEvaluation`.
        every_epochs: as for `KnnMonitor`.
    """

    def __init__(self, evaluation, every_epochs=1):
        self._evaluation = evaluation
        self._every_epochs = every_epochs

    @property
    def num_images(self) -> int:
        """How many images are encoded for all of them."""
        return self._evaluation.num_images * (len(baselines.make_plain()) + baselines.DRAWS)

    def is_due(self, finished_epochs: int, epochs: int) -> bool:
        """Whether kNN is measured after this many epochs, and was not before."""
        return finished_epochs == min(self._every_epochs, epochs)

    def measure(self, encoder) -> dict:
        """What `KnnEvaluation.baselines` measures.

        Returns:
            {"knn_baselines": {"pixels", "color_histogram", "untrained": accuracy in [0, 1]},
            "knn_baselines_seconds": float}.
        """
        started = time.perf_counter()
        figures = self._evaluation.baselines(encoder.backbone)
        return {
            "knn_baselines": figures,
            "knn_baselines_seconds": time.perf_counter() - started,
        }


class LinearMonitor(_Monitor):
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
        super().__init__(evaluation, every_epochs)

    def measure(self, encoder) -> dict:
        """-> {"linear_top1": in [0, 1], "linear_protocol": text, "linear_seconds": float}."""
        return self._measure("linear", encoder.pooled_features, "features")
