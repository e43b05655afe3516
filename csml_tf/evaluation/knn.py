"""Weighted kNN classification on frozen features, Wu et al., arXiv:1805.01978."""

import numpy as np
from absl import logging

from csml_tf import features, setting_rules, similarity
from csml_tf.errors import InputError
from csml_tf.evaluation import accuracy, labelled_pair
from csml_tf.evaluation.protocol_card import Outcome

# The usual number of neighbors, and the one for sets too small for it.
_LARGE_SET_K = 200
_SMALL_SET_K = 20
_SMALL_SET_IMAGES = 10_000
# Candidates beyond k that float32 proposes.
_MORE_PROPOSED = 32
# Float64 numbers of a block of queries, 128 MB: of their candidates, or of their votes.
_BLOCK_NUMBERS = 2**24


def measure(
    encoder,
    train_source,
    test_source,
    layer=("features",),
    k=(None,),
    temperature=(0.1,),
    baselines=False,
):
    """Accuracy by kNN for every layer, k and temperature of a grid; the protocol "knn".

    One pass over the images serves all layers, so all layers' features are in memory.

    Args:
        encoder: `FrozenEncoder`.
        train_source: labelled `ImageSource` whose images vote.
        test_source: labelled `ImageSource` to classify.
        layer: those of `frozen_encoder.LAYERS` to measure; maps are average-pooled.
        k: numbers of neighbors that vote; None takes 200, or 20 if fewer than 10,000 vote.
        temperature: of the votes' weights, each above 0.
        baselines: whether to measure the same network untrained, and raw pixels, too; on
            the first k and temperature.

    Returns:
        `Outcome`; its result has "top1" if the grid is one point, else "grid", a list of
        {"layer", "k", "temperature", "top1"}, and with baselines "untrained_top1" and
        "pixels_top1".

    Raises:
        InputError: if the labels do not fit, a k is larger than the voting set, a temperature is
            not above 0, or the model lacks a layer.
    """
    labelled_pair.check(train_source, test_source)
    ks = [choose_k(each, train_source) for each in k]
    setting_rules.check({"temperature": temperature})
    view, truth = encoder.center_view, test_source.labels

    def rows_of(train, test, ks, temperatures):
        predicted = classify_grid(train, train_source.labels, test, ks, temperatures)
        return [
            {"k": k, "temperature": t, "top1": accuracy.top_k(labels[:, None], truth, 1)}
            for (k, t), labels in predicted.items()
        ]

    layer = list(dict.fromkeys(layer))
    train, test = labelled_pair.extract(
        encoder.encode_layers(layer), train_source, test_source, view
    )
    rows = [
        {"layer": name, **row}
        for name in layer
        for row in rows_of(train.pop(name), test.pop(name), ks, temperature)
    ]
    result = {"top1": rows[0]["top1"]} if len(rows) == 1 else {"grid": rows}
    if baselines:
        for name, encode in (("untrained", encoder.untrained()), ("pixels", features.flatten)):
            pair = labelled_pair.extract(encode, train_source, test_source, view)
            (row,) = rows_of(*pair, ks[:1], temperature[:1])
            result[f"{name}_top1"] = row["top1"]
    settings = {
        "k": ks,
        "temperature": list(temperature),
        "layer": list(layer),
        "similarity": "cosine",
        "view": str(view),
    }
    return Outcome(settings, result)


def classify(train_features, train_labels, test_features, k, temperature):
    """As `classify_grid`, for one k and one temperature: [num_test] integer labels."""
    ((_, labels),) = classify_grid(
        train_features, train_labels, test_features, [k], [temperature]
    ).items()
    return labels


def classify_grid(train_features, train_labels, test_features, ks, temperatures):
    """The class with the largest sum of exp(cosine / temperature) over the k nearest.

    The neighbors are searched once, for the largest k.

    Args:
        train_features: [num_train, dim] float; normalised here.
        train_labels: [num_train] integer from 0.
        test_features: [num_test, dim] float; normalised here.
        ks: neighbors that vote, each at most num_train.
        temperatures: each above 0.

    Returns:
        {(k, temperature): [num_test] integer labels}; of classes with equal votes the first.

    Raises:
        ValueError: if a temperature is not above 0 or a k is out of range.
    """
    for temperature in temperatures:
        if temperature <= 0:
            raise ValueError(f"temperature must be above 0, got {temperature}.")
    similarities, indices = _nearest(test_features, train_features, max(ks))
    train_labels = np.asarray(train_labels)
    num_classes = train_labels.max() + 1
    predicted = {
        (k, temperature): np.empty(len(indices), np.int64)
        for temperature in temperatures
        for k in ks
    }
    # A table of votes for all would be queries x classes.
    rows_at_once = max(1, _BLOCK_NUMBERS // max(num_classes, max(ks)))
    for start in range(0, len(indices), rows_at_once):
        rows = slice(start, start + rows_at_once)
        near = similarities[rows]
        cells = train_labels[indices[rows]] + num_classes * np.arange(len(near))[:, None]
        for temperature in temperatures:
            # Against the nearest one: the same order of votes, and no overflow if it is low.
            weights = np.exp((near - near[:, :1]) / temperature)
            for k in ks:
                votes = np.bincount(
                    cells[:, :k].ravel(), weights[:, :k].ravel(), num_classes * len(near)
                )
                predicted[k, temperature][rows] = votes.reshape([-1, num_classes]).argmax(axis=1)
    return predicted


def _nearest(queries, bank, k):
    """The k most similar rows of the bank in float64, nearest first: (cosines, indices).

    Each test image's vote can hang on one neighbor, and similarities of a narrow cone of
    features differ by less than float32 tells: it proposes some more, and float64 decides.
    """
    proposed = max(k, min(k + _MORE_PROPOSED, len(bank)))
    unit = similarity.l2_normalize(queries), similarity.l2_normalize(bank)
    indices = np.sort(similarity.cosine_top_k(*unit, proposed)[1], axis=1)
    cosines = np.empty([len(queries), k])
    nearest = np.empty([len(queries), k], np.int64)
    rows_at_once = max(1, _BLOCK_NUMBERS // (proposed * unit[1].shape[1]))
    for start in range(0, len(queries), rows_at_once):
        rows = slice(start, start + rows_at_once)
        query = _unit_float64(np.asarray(queries[rows]))
        candidates = _unit_float64(np.asarray(bank)[indices[rows]])
        found = np.einsum("qd,qcd->qc", query, candidates)
        # Stable, of ascending indices: of equals the lower one first.
        order = np.argsort(-found, axis=1, kind="stable")[:, :k]
        cosines[rows] = np.take_along_axis(found, order, axis=1)
        nearest[rows] = np.take_along_axis(indices[rows], order, axis=1)
    return cosines, nearest


def _unit_float64(features):
    features = features.astype(np.float64)
    norms = np.linalg.norm(features, axis=-1, keepdims=True)
    return features / np.maximum(norms, 1e-12)


def choose_k(k, train_source) -> int:
    """K itself, or for None the usual number of neighbors for a set of this size.

    Raises:
        InputError: if there are not as many images as were asked for.
    """
    if k is None:
        usual = _SMALL_SET_K if len(train_source) < _SMALL_SET_IMAGES else _LARGE_SET_K
        k = min(usual, len(train_source))
        if k < usual:
            logging.info("k is %d, all images of %s: %d is usual.", k, train_source.name, usual)
    if not 1 <= k <= len(train_source):
        raise InputError(
            f"k must be from 1 to the {len(train_source)} images of {train_source.name}, got {k}."
        )
    return k
