"""Weighted kNN classification on frozen features, Wu et al., arXiv:1805.01978."""

import numpy as np
from absl import logging

from csml_tf import setting_rules, similarity
from csml_tf.errors import InputError
from csml_tf.evaluation import labelled_pair
from csml_tf.evaluation import near_duplicates as duplicates
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
    near_duplicates=True,
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
        near_duplicates: whether to look, by the first layer, for test images that are training
            images, or nearly.

    Returns:
        `Outcome`; its result has "top1" if the grid is one point, else "grid", a list of
        {"layer", "k", "temperature", "top1"}; "near_duplicates", how many test images are, as
        `near_duplicates.find` finds them; and if there are any, beside each "top1" one of the
        other test images, "top1_without_near_duplicates". Its files are a list of the pairs.

    Raises:
        InputError: if the labels do not fit, a k is larger than the voting set, a temperature is
            not above 0, or the model lacks a layer.
    """
    labelled_pair.check(train_source, test_source)
    ks = [choose_k(each, train_source) for each in k]
    setting_rules.check({"temperature": temperature})
    layer = list(dict.fromkeys(layer))
    train, test = labelled_pair.extract(
        encoder.encode_layers(layer), train_source, test_source, encoder.center_view
    )
    searched = min(max(*ks, duplicates.ORDINARY_RANK), len(train_source))
    settings = {
        "k": ks,
        "temperature": list(temperature),
        "layer": list(layer),
        "similarity": "cosine",
        "view": str(encoder.center_view),
    }
    rows, pairs = [], None
    for name in layer:
        found = nearest(test.pop(name), train.pop(name), searched)
        if near_duplicates and pairs is None:
            sources = train_source, test_source
            pairs = duplicates.find(*found, *sources, encoder.center_view)
            settings["near_duplicates"] = str(pairs)
        predicted = vote(*found, train_source.labels, ks, temperature)
        rows += [
            {"layer": name, "k": k, "temperature": t, **_score(labels, test_source.labels, pairs)}
            for (k, t), labels in predicted.items()
        ]
    result = {"grid": rows} if len(rows) > 1 else {"top1": rows[0]["top1"]}
    if pairs is None:
        return Outcome(settings, result)
    result["near_duplicates"] = len(pairs)
    if not len(pairs):
        return Outcome(settings, result)
    if len(rows) == 1:
        result.update({name: rows[0][name] for name in rows[0] if name.startswith("top1")})
    files = {"near_duplicates.csv": pairs.to_csv(train_source, test_source)}
    note = pairs.describe(len(test_source), "top1", rows[0])
    return Outcome(settings, result, files, (note,))


def _score(predicted, truth, pairs):
    """{"top1"}, and without the near-duplicates of `pairs`, if there are some and others."""
    is_right = predicted == truth
    scores = {"top1": float(is_right.mean())}
    if pairs is not None and 0 < len(pairs) < len(truth):
        others = np.delete(is_right, pairs.test_indices)
        scores[f"top1{duplicates.WITHOUT}"] = float(others.mean())
    return scores


def classify(train_features, train_labels, test_features, k, temperature):
    """The classes of images by their nearest neighbors, as `nearest` and `vote` find them.

    Args:
        train_features: [num_train, dim] float; normalised here.
        train_labels: [num_train] integer from 0.
        test_features: [num_test, dim] float; normalised here.
        k: neighbors that vote, at most num_train.
        temperature: above 0.

    Returns:
        [num_test] integer labels.

    Raises:
        ValueError: if the temperature is not above 0 or k is out of range.
    """
    found = nearest(test_features, train_features, k)
    return vote(*found, train_labels, [k], [temperature])[k, temperature]


def vote(cosines, indices, train_labels, ks, temperatures):
    """The class with the largest sum of exp(cosine / temperature) over the k nearest.

    Args:
        cosines: [num_test, count] float, of the nearest training images, nearest first.
        indices: [num_test, count] integer, which they are.
        train_labels: [num_train] integer from 0.
        ks: neighbors that vote, each at most `count`.
        temperatures: each above 0.

    Returns:
        {(k, temperature): [num_test] integer labels}; of classes with equal votes the first.

    Raises:
        ValueError: if a temperature is not above 0.
    """
    for temperature in temperatures:
        if temperature <= 0:
            raise ValueError(f"temperature must be above 0, got {temperature}.")
    similarities = cosines[:, : max(ks)]
    indices = indices[:, : max(ks)]
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


def nearest(queries, bank, k):
    """The k rows of the bank most similar to each query, in float64, nearest first.

    Each test image's vote can hang on one neighbor, and similarities of a narrow cone of
    features differ by less than float32 tells: it proposes some more, and float64 decides.

    Args:
        queries: [num_queries, dim] float; normalised here.
        bank: [num_images, dim] float; normalised here.
        k: from 1 to num_images.

    Returns:
        (cosines [num_queries, k] float64, indices [num_queries, k] int64).

    Raises:
        ValueError: if k is out of range, or a feature is not finite.
    """
    proposed = max(k, min(k + _MORE_PROPOSED, len(bank)))
    unit = similarity.l2_normalize(queries), similarity.l2_normalize(bank)
    indices = np.sort(similarity.cosine_top_k(*unit, proposed)[1], axis=1)
    cosines = np.empty([len(queries), k])
    places = np.empty([len(queries), k], np.int64)
    rows_at_once = max(1, _BLOCK_NUMBERS // (proposed * unit[1].shape[1]))
    for start in range(0, len(queries), rows_at_once):
        rows = slice(start, start + rows_at_once)
        query = _unit_float64(np.asarray(queries[rows]))
        candidates = _unit_float64(np.asarray(bank)[indices[rows]])
        found = np.einsum("qd,qcd->qc", query, candidates)
        # Stable, of ascending indices: of equals the lower one first.
        order = np.argsort(-found, axis=1, kind="stable")[:, :k]
        cosines[rows] = np.take_along_axis(found, order, axis=1)
        places[rows] = np.take_along_axis(indices[rows], order, axis=1)
    return cosines, places


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
