"""Image retrieval by cosine similarity: recall@k and mAP."""

import numpy as np

from csml_tf import similarity
from csml_tf.errors import InputError
from csml_tf.evaluation import knn, labelled_pair
from csml_tf.evaluation import near_duplicates as duplicates
from csml_tf.evaluation.protocol_card import Outcome
from csml_tf.evaluation.retrieval import average_precision, nearest_images

_RECALL_AT = (1, 5, 10)


def measure(
    encoder,
    train_source,
    test_source,
    layer=("features",),
    k=None,
    queries=None,
    near_duplicates=True,
):
    """How many test images find their class among the training images; the protocol "retrieval".

    The test images are the queries, the training images the gallery. If both are the same
    images, every image is a query and is left out of its own ranking; images that are alone in
    their class are then no queries.

    * recall@k: share of queries with at least one image of their class among the k nearest.
    * mAP: mean over the queries of `average_precision.average_precisions`, of the whole ranking.

    With `queries` it does what `nearest_images.look_up` does instead.

    Memory is that of the features, twice, and of 256 MB of similarities.

    Args:
        encoder: `FrozenEncoder`.
        train_source: labelled `ImageSource`, the gallery.
        test_source: labelled `ImageSource`, the queries.
        layer: those of `frozen_encoder.LAYERS` to compare by; maps are average-pooled.
        k: numbers of nearest images; None takes those of 1, 5 and 10 that there are images for.
        queries: path of an image file or a folder of images, or None.
        near_duplicates: as for `knn.measure`; not where both are the same images.

    Returns:
        `Outcome`; its result has "map" and a "recall_at_<k>" for each k, all in [0, 1], or for
        several layers "grid", a list of such with "layer"; "near_duplicates", and if there are
        any, beside each "map" one of the other queries, "map_without_near_duplicates".

    Raises:
        InputError: if the labels do not fit, a k is out of range, no query has another image
            of its class, the model lacks a layer, or as `nearest_images.look_up`.
    """
    layer = list(dict.fromkeys(layer))
    if queries is not None:
        return nearest_images.look_up(encoder, (train_source, test_source), queries, layer, k)
    labelled_pair.check(train_source, test_source)
    own, has_match = _find_own(train_source, test_source)
    num_others = len(train_source) - (own is not None)
    ks = sorted(set(k or [each for each in _RECALL_AT if each <= num_others] or [1]))
    nearest_images.check_k(ks, num_others, train_source.name)
    gallery, test = labelled_pair.extract(
        encoder.encode_layers(layer), train_source, test_source, encoder.center_view
    )
    labels = test_source.labels[has_match]
    rows, pairs = [], None
    for name in layer:
        images = similarity.l2_normalize(gallery.pop(name))
        looking = similarity.l2_normalize(test.pop(name)[has_match])
        if near_duplicates and own is None and pairs is None:
            near = knn.nearest(looking, images, min(duplicates.ORDINARY_RANK, len(images)))
            pairs = duplicates.find(*near, train_source, test_source, encoder.center_view)
        _, nearest = similarity.cosine_top_k(looking, images, ks[-1], own)
        hits = train_source.labels[nearest] == labels[:, None]
        precisions = average_precision.average_precisions(
            looking, labels, images, train_source.labels, own
        )
        recalls = {f"recall_at_{k}": float(hits[:, :k].any(axis=1).mean()) for k in ks}
        row = {"layer": name, "map": float(precisions.mean()), **recalls}
        if pairs is not None and 0 < len(pairs) < len(precisions):
            others = np.delete(precisions, pairs.test_indices)
            row[f"map{duplicates.WITHOUT}"] = float(others.mean())
        rows.append(row)
    result = {"grid": rows}
    if len(rows) == 1:
        result = {name: value for name, value in rows[0].items() if name != "layer"}
    settings = {
        "k": ks,
        "layer": layer,
        "similarity": "cosine",
        "view": str(encoder.center_view),
        "queries": f"{len(labels)} test images",
        "gallery": "the training images" + (" but the query itself" if own is not None else ""),
    }
    if pairs is None:
        return Outcome(settings, result)
    result["near_duplicates"] = len(pairs)
    settings["near_duplicates"] = str(pairs)
    if not len(pairs):
        return Outcome(settings, result)
    files = {"near_duplicates.csv": pairs.to_csv(train_source, test_source)}
    return Outcome(settings, result, files, (pairs.describe(len(labels), "map", rows[0]),))


def _find_own(train_source, test_source):
    """-> (where each query is in the gallery, or None; [num_test] bool: which are queries)."""
    everyone = np.ones(len(test_source), bool)
    if train_source.fingerprint != test_source.fingerprint:
        return None, everyone
    has_match = np.bincount(test_source.labels)[test_source.labels] > 1
    if not has_match.any():
        raise InputError(
            f"No two images of {test_source.name} are of one class, so there is nothing to find: "
            "give at least two images of a class."
        )
    return np.flatnonzero(has_match), has_match
