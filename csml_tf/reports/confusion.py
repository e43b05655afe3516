"""Which classes a linear probe takes for which."""

import warnings

import numpy as np
from absl import logging

from csml_tf.data import originals
from csml_tf.errors import InputError
from csml_tf.evaluation import accuracy, labelled_pair
from csml_tf.reports import canvas
from csml_tf.reports.part import LeftOut

_MAX_TRAIN = 5000
_MAX_CLASSES = 40
_MAX_NUMBERED = 15
_INVERSE_PENALTY = 0.1
_MAX_ITERATIONS = 300


def of_cards(cards):
    """The matrix that a measurement has left.

    Args:
        cards: list of `measurements.Measurement`, of this encoder first.

    Returns:
        ([classes, classes] counts, rows the true classes, sentence about it), or None.
    """
    for measured in cards:
        matrix = np.asarray(measured.card.result.get("confusion", []), np.float64)
        if matrix.ndim == 2 and matrix.shape[0] == matrix.shape[1] > 1:
            return matrix, f"Measured by {measured.card.headline()}."
    return None


def by_probe(test, train, seed):
    """Fits logistic regression on training features and counts its errors on held-out ones.

    Args:
        test: `trained_features.ImageFeatures`, labelled.
        train: the same.
        seed: of the draw of training images, where there are more than 5000.

    Returns:
        As `of_cards`.

    Raises:
        LeftOut: if there are no labels, or they do not fit.
    """
    try:
        num_classes = labelled_pair.check(train.source, test.source)
    except InputError as error:
        raise LeftOut(str(error)) from error
    if num_classes > _MAX_CLASSES:
        raise LeftOut(
            f"A matrix of {num_classes} classes cannot be read, {_MAX_CLASSES} is the most: "
            "measure with csml-tf evaluate --json, which writes all numbers."
        )
    from sklearn import linear_model, preprocessing  # They take a second to import.

    count = len(train.source)
    rows = np.arange(count)
    if count > _MAX_TRAIN:
        rows = np.random.default_rng(seed).choice(count, _MAX_TRAIN, replace=False)
    labels = train.source.labels[rows]
    if len(np.unique(labels)) < 2:
        raise LeftOut("The training images drawn for the probe have one class only.")
    logging.info("fitting a linear probe to %d images", len(rows))
    scaler = preprocessing.StandardScaler().fit(train.values[rows])
    probe = linear_model.LogisticRegression(C=_INVERSE_PENALTY, max_iter=_MAX_ITERATIONS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Not converged: near enough for a picture.
        probe.fit(scaler.transform(train.values[rows]), labels)
    predicted = probe.predict(scaler.transform(test.values))
    matrix = accuracy.confusion_matrix(test.source.labels, predicted, num_classes)
    return matrix, (
        f"A quick probe: logistic regression (scikit-learn, C = {_INVERSE_PENALTY}) on the "
        f"standardised features of {len(rows):,} images of {train.source.name}, tested on "
        f"{len(test.source):,} of {test.source.name}: {np.trace(matrix) / matrix.sum():.1%} right. "
        "For a figure to quote, run a linear protocol of csml-tf evaluate."
    )


def least_px(num_classes):
    """Width below which the matrix could not be read on a page: a window scrolls it instead."""
    return 100 + 20 * num_classes


def draw(matrix, class_names):
    """The matrix in per cent of each true class.

    Args:
        matrix: [classes, classes] counts, rows the true classes.
        class_names: tuple of str, or None.

    Returns:
        `matplotlib.figure.Figure`.
    """
    shares = 100 * matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1e-12)
    names = [originals.class_name(class_names, i) for i in range(len(matrix))]
    side = 1.7 + 0.3 * len(matrix)
    with canvas.style():
        figure = canvas.figure(min(side, 12), min(side, 11))
        axes = figure.subplots()
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
        axes.grid(False)
        axes.set_xticks(range(len(names)), names, rotation=90 if max(map(len, names)) > 2 else 0)
        axes.set_yticks(range(len(names)), names)
        axes.tick_params(length=0, labelsize=8.5)
        axes.set(xlabel="taken for", ylabel="true class")
        if len(matrix) <= _MAX_NUMBERED:
            for (row, column), share in np.ndenumerate(shares):
                if share >= 0.5:
                    color = "white" if share > 55 else "#333333"
                    text = {"ha": "center", "va": "center", "fontsize": 8.5}
                    axes.text(column, row, f"{share:.0f}", color=color, **text)
        else:
            figure.colorbar(image, ax=axes, shrink=0.6, label="% of the true class")
        return figure
