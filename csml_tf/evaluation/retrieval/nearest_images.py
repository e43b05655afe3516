"""Looks images up: which of a data set are most like them."""

import os

import numpy as np

from csml_tf import features, similarity
from csml_tf.data import catalog
from csml_tf.errors import InputError
from csml_tf.evaluation import labelled_pair
from csml_tf.evaluation.protocol_card import Outcome

_NUM_NEAREST = 5


def look_up(encoder, sources, queries, layer=("features",), k=None):
    """Finds the nearest images of a data set, by cosine similarity; no label is needed.

    A query that is itself in the data set, by its path, is not its own neighbor.

    Args:
        encoder: `FrozenEncoder`.
        sources: (training, test) `ImageSource`s of the data set; all their images are the
            gallery.
        queries: path of an image file or of a folder of images.
        layer: those of `frozen_encoder.LAYERS` to compare by; maps are average-pooled.
        k: numbers of images to find, of which the largest counts; None takes 5.

    Returns:
        `Outcome`; its result is {"nearest": list of {"layer", "query", "rank" from 1,
        "similarity" in [-1, 1], "image"}}. An image is its path, or the name of its source and
        its index where it comes from no file.

    Raises:
        InputError: if `queries` has no image, the gallery has too few, or the model lacks
            a layer.
    """
    wanted = catalog.open_images(queries)
    names = [name for source in sources for name in _name_images(source)]
    own = _find_own(wanted.paths, names)
    k = max(k or [_NUM_NEAREST])
    check_k([k], len(names) - (own is not None), " and ".join(source.name for source in sources))
    encode = encoder.encode_layers(layer)
    gallery = labelled_pair.extract(encode, *sources, encoder.center_view)
    looking = features.extract_features(encode, wanted, encoder.center_view)
    rows = []
    for name in layer:
        images = similarity.l2_normalize(np.concatenate([part.pop(name) for part in gallery]))
        similarities, nearest = similarity.cosine_top_k(
            similarity.l2_normalize(looking[name]), images, k, own
        )
        rows += [
            {
                "layer": name,
                "query": path,
                "rank": rank + 1,
                "similarity": float(similarities[query, rank]),
                "image": names[nearest[query, rank]],
            }
            for query, path in enumerate(wanted.paths)
            for rank in range(k)
        ]
    settings = {
        "k": k,
        "layer": layer,
        "similarity": "cosine",
        "view": str(encoder.center_view),
        "queries": f"{len(wanted)} images of {queries}",
        "gallery": "training and test images",
    }
    return Outcome(settings, {"nearest": rows})


def check_k(ks, num_candidates, name):
    """Raises `InputError` unless each k is from 1 to the number of images to find."""
    for k in ks:
        if not 1 <= k <= num_candidates:
            raise InputError(
                f"k must be from 1 to the {num_candidates} images to find in {name}, got {k}."
            )


def _name_images(source):
    return source.paths or [f"{source.name}[{index}]" for index in range(len(source))]


def _find_own(paths, names):
    """[num_queries] integers: where each file is in the gallery, or -1; None if all are -1."""
    indices = {os.path.abspath(name): index for index, name in enumerate(names)}
    own = np.array([indices.get(os.path.abspath(path), -1) for path in paths])
    return own if (own >= 0).any() else None
