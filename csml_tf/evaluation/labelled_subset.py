"""Which images of a training set keep their labels, and the file that says so."""

import dataclasses
import json

import numpy as np

from csml_tf import amounts, places, setting_rules
from csml_tf.data import balanced_draw
from csml_tf.errors import InputError
from csml_tf.evaluation import labelled_pair


def choose(source, fraction=None, per_class=None, path=None, seed=0):
    """The labelled images: a draw, those of a file, or all that have a label.

    Args:
        source: `ImageSource` of the training images.
        fraction: as for `draw`, or None.
        per_class: as for `draw_per_class`, or None.
        path: as for `load`, or None.
        seed: as for `draw`.

    Returns:
        ([count] int64 indices, rising; text that says where they come from).

    Raises:
        InputError: as `draw` and `load`, if several are given, or if there are no labels.
    """
    if source.labels is None or not len(find_labelled(source)):
        raise labelled_pair.needs_labels(source)
    given = {"labels": fraction, "labels_per_class": per_class, "labels_file": path}
    names = [f"--{name}" for name, value in given.items() if value is not None]
    if len(names) > 1:
        raise InputError(f"The labelled images come from {names[0]} or {names[1]}: leave one out.")
    if path is not None:
        indices, origin = load(path, source), f"listed in {path}"
    elif per_class is not None:
        indices = draw_per_class(source, per_class, seed)
        origin = f"{per_class} of each class, drawn with seed {seed}"
    elif fraction is not None:
        indices, origin = draw(source, fraction, seed), f"{fraction:g}, drawn with seed {seed}"
    else:
        indices, origin = find_labelled(source), "all there are"
    return indices, f"{len(indices)} of {len(source)} images, {origin}"


def measure(
    protocol,
    encoder,
    train_source,
    test_source,
    labels=None,
    labels_per_class=None,
    labels_file=None,
    labels_seed=0,
    **settings,
):
    """Measures by a protocol that learns from the labelled images only.

    Args:
        protocol: function of (encoder, train_source, test_source, **settings) to an `Outcome`.
        encoder: as the protocol takes it.
        train_source: `ImageSource`, of which a part is labelled.
        test_source: labelled `ImageSource` to be tested on.
        labels: as `fraction` for `choose`.
        labels_per_class: as `per_class` for `choose`.
        labels_file: as `path` for `choose`.
        labels_seed: as `seed` for `choose`.
        **settings: of the protocol.

    Returns:
        The protocol's `Outcome`, to which "labels" is added, and the list of them as a file.

    Raises:
        InputError: as `choose` and the protocol do.
    """
    indices, origin = choose(train_source, labels, labels_per_class, labels_file, labels_seed)
    labelled = train_source.subset(indices, f"the labelled part of {train_source.name}")
    outcome = protocol(encoder, labelled, test_source, **settings)
    return dataclasses.replace(
        outcome,
        settings={"labels": origin, **outcome.settings},
        files={**outcome.files, "labels.json": to_json(train_source, indices, origin)},
    )


def draw(source, fraction, seed):
    """Draws the labelled images, in equal shares of each class; see `balanced_draw`.

    Args:
        source: `ImageSource`; images without a label, -1, are never drawn.
        fraction: of the images that have a label, in (0, 1]; 1 is all of them.
        seed: int.

    Returns:
        [count] int64 indices, rising.

    Raises:
        InputError: if the fraction is out of range, or a class is left without an image.
    """
    setting_rules.check({"labels": fraction})
    candidates = find_labelled(source)
    if fraction == 1:
        return candidates
    labels = source.labels[candidates]
    drawn = candidates[balanced_draw.draw(len(candidates), fraction, labels, seed)]
    classes, sizes = np.unique(labels, return_counts=True)
    left_out = np.setdiff1d(classes, source.labels[drawn])
    if len(left_out):
        name = repr(source.class_names[left_out[0]]) if source.class_names else left_out[0]
        raise InputError(
            f"--labels={fraction} of {source.name} is {amounts.count(len(drawn), 'image')} and "
            f"leaves {len(left_out)} of {len(classes)} classes without any, the first is {name}: "
            f"{1 / sizes.min():.2g} gives every class at least one."
        )
    return drawn


def draw_per_class(source, count, seed):
    """Draws so many labelled images of each class, or all of a class that has no more.

    What a larger count draws with the same seed holds what a smaller one draws.

    Args:
        source: `ImageSource`; images without a label, -1, are never drawn.
        count: int, at least 1.
        seed: int.

    Returns:
        [count] int64 indices, rising.
    """
    setting_rules.check({"labels_per_class": count})
    order = np.random.default_rng(seed).permutation(find_labelled(source))
    classes = np.unique(source.labels[order])
    drawn = [order[source.labels[order] == label][:count] for label in classes]
    return np.sort(np.concatenate(drawn))


def find_labelled(source):
    """Indices of the images that have a label, [count] int64, rising."""
    return np.flatnonzero(source.labels >= 0)


def to_json(source, indices, origin):
    """The text of a file that `load` reads.

    Args:
        source: `ImageSource`.
        indices: [count] integers.
        origin: text for people; `load` ignores it.
    """
    content = {
        "data": source.name,
        "images": len(source),
        "fingerprint": source.fingerprint,
        "origin": origin,
        "indices": np.asarray(indices).tolist(),
    }
    return json.dumps(content) + "\n"


def load(path, source):
    """The labelled images of a file that `to_json` made.

    Args:
        path: of the file.
        source: the `ImageSource` it was made for.

    Returns:
        [count] int64 indices, rising.

    Raises:
        InputError: if the file cannot be read, or is of other images.
    """
    try:
        content = json.loads(places.at(path).read_text())
        fingerprint, indices = content["fingerprint"], np.unique(content["indices"])
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror or error}): check --labels_file."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} is no list of labelled images: give --labels_file a .labels.json that this "
            "tool has written beside a card."
        ) from error
    if fingerprint != source.fingerprint:
        raise InputError(
            f"{path} was drawn from other images ({content.get('data', 'unnamed')}, fingerprint "
            f"{fingerprint}) than {source.name} ({source.fingerprint}): give the data set that it "
            "belongs to, or draw anew with --labels."
        )
    in_range = indices.dtype.kind == "i" and indices[0] >= 0 and indices[-1] < len(source)
    if not in_range or (source.labels[indices] < 0).any():
        raise InputError(
            f"{path} names no images, or some that {source.name} does not have or has no label "
            "of: draw anew with --labels."
        )
    return indices
