"""Linear evaluation in minutes: logistic regression on features computed once."""

from typing import NamedTuple

import numpy as np
from absl import logging

from csml_tf import progress, setting_rules
from csml_tf.errors import InputError
from csml_tf.evaluation import accuracy, labelled_pair
from csml_tf.evaluation.linear import crop_features, held_out, logistic_regression
from csml_tf.evaluation.linear.layer_vectors import LayerVectors, headline_name
from csml_tf.evaluation.protocol_card import Outcome

L2_STRENGTHS = (1e-1, 1e-2, 1e-3, 1e-4)
_MAX_CONFUSION_CLASSES = 100
_TOP = 5
_FEATURES = "cached, standardised on train"
_CROP_BATCH = 256
_CROP_SEED = 0
_OBJECTIVE = "mean cross-entropy + l2 / 2 * |kernel|^2"


def measure(
    encoder,
    train_source,
    test_source,
    layer=("features",),
    stage_features=None,
    l2=L2_STRENGTHS,
    crops=None,
):
    """Accuracy of logistic regression at its optimum; the protocol "linear_cached".

    One centre view of each image, no augmentation; or, to train on, several random crops of
    each, which is the objective of the protocol "linear", from a finite draw. Each feature is
    brought to mean 0 and standard deviation 1 over what is trained on, so that a strength of L2
    means the same for every encoder. The optimum is one, so there is nothing to average over
    seeds.

    Needs the memory of one layer's features of both sets, and one pass over the images for
    each layer, or `crops` over those to train on.

    Args:
        encoder: `FrozenEncoder`.
        train_source: labelled `ImageSource` to train on.
        test_source: labelled `ImageSource` to be tested on.
        layer: those of `frozen_encoder.LAYERS` to measure.
        stage_features: as for `LayerVectors`.
        l2: strengths to try, each above 0. Several are fitted to four fifths of the training
            images first, to choose on the last fifth.
        crops: random crops, half of them flipped, of each training image in place of its centre
            view; those that fill no batch of 256 are left out of each pass.

    Returns:
        `Outcome`; its result has "top1", "top5" (of more than 5 classes) and "l2", the
        chosen strength, with "stage3_top1" and so on in their place for several layers; for at
        most 100 classes "confusion", [true class][predicted class] counts of test images;
        "class_names" if known; and "grid", a list of {"layer", "l2", "held_out_top1", "top1",
        "top5", "iterations", "largest_gradient", "converged", "chosen"}.

    Raises:
        InputError: if the labels do not fit, a strength or `crops` is out of range, or the
            encoder lacks a layer, does not take such images or makes features that are not
            finite.
    """
    num_classes = labelled_pair.check(train_source, test_source)
    setting_rules.check({"l2": l2, "crops": crops})
    # From strong to weak: each optimum is near the one before, and quickest from there.
    strengths = sorted({float(each) for each in l2}, reverse=True)
    vectors = {name: LayerVectors(encoder, [name], stage_features) for name in layer}
    hidden = held_out.draw(train_source.labels)
    hidden_source = train_source.subset(np.flatnonzero(hidden), "held-out images")
    result, rows = {}, []
    for name, make in vectors.items():

        def encode(images, make=make, name=name):
            return make(images)[name]

        sources = train_source, test_source, encoder.center_view
        if crops:
            indices, train, test, held = _extract_crops(encode, hidden_source, *sources, crops)
        else:
            train, test = extract(encode, *sources)
            indices, held = np.arange(len(train)), train[hidden]
        own_rows, predicted = _fit_grid(
            _Set(train, train_source.labels[indices]),
            _Set(held, hidden_source.labels),
            _Set(test, test_source.labels),
            ~hidden[indices],
            num_classes,
            strengths,
        )
        chosen = 0
        if len(strengths) > 1:
            chosen = held_out.choose([row["held_out_top1"] for row in own_rows])
        for i, row in enumerate(own_rows):
            row["chosen"] = i == chosen
        best = own_rows[chosen]
        figures = {key: best[key] for key in ("top1", "top5", "l2") if key in best}
        if num_classes <= _MAX_CONFUSION_CLASSES:
            matrix = accuracy.confusion_matrix(test_source.labels, predicted[chosen], num_classes)
            figures["confusion"] = matrix.tolist()
        result.update({headline_name(key, name, len(vectors)): figures[key] for key in figures})
        rows += [{"layer": name, **row} for row in own_rows]
        if not best["converged"]:
            logging.warning(
                "The optimum on %s is not reached: the largest gradient is %.2g after %d "
                "iterations.",
                *(name, best["largest_gradient"], best["iterations"]),
            )
    names = test_source.class_names or train_source.class_names
    if names and num_classes <= _MAX_CONFUSION_CLASSES:
        result["class_names"] = list(names)
    settings = {
        "layer": [pooling for each in vectors.values() for pooling in each.pooling],
        "l2": strengths,
        "choice": held_out.CHOICE if len(strengths) > 1 else held_out.NO_CHOICE,
        "objective": _OBJECTIVE,
        "solver": "L-BFGS to the optimum",
        "features": _FEATURES,
        "train_view": f"{crops} of {crop_features.VIEW}" if crops else str(encoder.center_view),
        "test_view": str(encoder.center_view),
        "backbone": "frozen, inference mode",
    }
    return Outcome(settings, {**result, "grid": rows})


def extract(encode, train_source, test_source, view):
    """Standardised features of both sets.

    Args:
        encode: function of a batch of images to [batch, dim].
        train_source: `ImageSource` whose features get mean 0 and standard deviation 1.
        test_source: `ImageSource` whose features are transformed alike.
        view: `augment.center_view.CenterView`.

    Returns:
        [num_train, dim] and [num_test, dim] float32.

    Raises:
        InputError: if a feature is not a finite number.
    """
    train, test = labelled_pair.extract(encode, train_source, test_source, view)
    _standardize((train, train_source), (test, test_source))
    return train, test


def _extract_crops(encode, hidden_source, train_source, test_source, view, crops):
    """Standardised features of random crops to train on, and of centre views to be tested on.

    Returns:
        [num_rows] integer, the training image of each row that follows; [num_rows, dim] of crops
        of the training images, [num_test, dim], and [num_hidden, dim] of held-out images.
    """
    reader = crop_features.CropFeatures(
        encode, train_source, view.image_size, _CROP_BATCH, _CROP_SEED
    )
    blocks, indices = [], []
    description = f"crops of {train_source.name}"
    with progress.bar(crops * reader.num_images, description, unit="images") as advance:
        for number in range(crops):
            for made, rows in reader.read(number):
                blocks.append(made.numpy())
                indices.append(rows.numpy())
                advance(reader.batch_size)
    train = np.concatenate(blocks)
    held, test = labelled_pair.extract(encode, hidden_source, test_source, view)
    _standardize((train, train_source), (held, hidden_source), (test, test_source))
    return np.concatenate(indices), train, test, held


def _standardize(*features_and_sources):
    """In place, by the first features' mean and standard deviation; checks that they are finite."""
    for made, source in features_and_sources:
        if not np.isfinite(made).all():
            raise InputError(
                f"The features of {source.name} are not all finite numbers: train the encoder "
                "anew, or choose another --layer."
            )
    logistic_regression.standardize(*(made for made, _ in features_and_sources))


class _Set(NamedTuple):
    """[n, dim] float32 features and their [n] integer labels."""

    features: np.ndarray
    labels: np.ndarray


def _fit_grid(train, held, test, is_seen, num_classes, strengths):
    """-> (a row of the grid, [num_test] predicted classes) for each strength: two lists.

    `held` chooses between classifiers that are trained on the rows of `train` that `is_seen`.
    """
    rows = [{"l2": strength} for strength in strengths]
    starts = [None] * len(strengths)
    if len(strengths) > 1:
        fit = None
        for i, strength in enumerate(strengths):
            fit = starts[i] = logistic_regression.fit(
                *train, num_classes, strength, weights=is_seen, start=fit
            )
            ranked = fit.rank(held.features, 1)
            rows[i]["held_out_top1"] = accuracy.top_k(ranked, held.labels, 1)
    predicted = []
    for row, strength, start in zip(rows, strengths, starts):
        fit = logistic_regression.fit(*train, num_classes, strength, start=start)
        ranked = fit.rank(test.features, min(_TOP, num_classes))
        for k in (1, _TOP) if num_classes > _TOP else (1,):
            row[f"top{k}"] = accuracy.top_k(ranked, test.labels, k)
        row["iterations"] = fit.iterations
        row["largest_gradient"] = fit.largest_gradient
        row["converged"] = fit.converged
        predicted.append(ranked[:, 0])
    return rows, predicted
