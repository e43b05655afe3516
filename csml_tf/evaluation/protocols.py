"""The protocols by name, and the card that every one of them leaves."""

import dataclasses
import functools
import inspect
import time

from csml_tf import choices, setting_rules
from csml_tf.errors import InputError
from csml_tf.evaluation import knn, labelled_subset, protocol_card
from csml_tf.evaluation.baselines import PROTOCOL, Baselines, judge
from csml_tf.evaluation.linear import cached as linear_cached
from csml_tf.evaluation.linear import protocol as linear
from csml_tf.evaluation.protocol_card import ProtocolCard
from csml_tf.evaluation.retrieval import protocol as retrieval
from csml_tf.evaluation.semi_supervised import protocol as semi_supervised

# Each is a function of (encoder, train_source, test_source, **settings) to an `Outcome`.
_PROTOCOLS = {
    "knn": knn.measure,
    "linear": linear.measure,
    "linear_cached": linear_cached.measure,
    "retrieval": retrieval.measure,
    "semi_supervised": semi_supervised.measure,
}
NAMES = choices.PROTOCOLS
# Those that learn from some of the labels where these settings say so. "semi_supervised" has the
# settings itself, since it uses the other images, too.
_WITH_SUBSETS = ("knn", "linear", "linear_cached")
_OF_SUBSETS = ("labels", "labels_per_class", "labels_file", "labels_seed")
# Settings of several layers, of which a baseline has none, and those of a grid of votes.
_OF_LAYERS = ("layer", "stage_features")
_GRID = ("k", "temperature")
# {protocol that has baselines: (the figure that is compared, whether they are measured unless
# they are declined)}: where they take as long as all the rest again, they are asked for.
_WITH_BASELINES = {
    "knn": ("top1", True),
    "linear": ("top1", False),
    "linear_cached": ("top1", False),
    "retrieval": ("map", True),
}


def measure(name, encoder, train_source, test_source, baselines=None, measured=None, **settings):
    """Measures an encoder by one of the protocols.

    Args:
        name: one of `NAMES`.
        encoder: `FrozenEncoder`.
        train_source: labelled `ImageSource` to learn from.
        test_source: labelled `ImageSource` to be tested on.
        baselines: whether to measure pixels, colors and untrained weights, too, each by the same
            protocol, on the first `k` and `temperature`; None does in "knn" and "retrieval".
        measured: `Baselines` of these sources, which remembers what it has measured; None
            begins anew.
        **settings: of the protocol; those that are None take its defaults.

    Returns:
        `ProtocolCard`.

    Raises:
        InputError: if a setting means nothing to the protocol, the encoder's weights have
            changed, or as the protocol does.
    """
    given = {setting: value for setting, value in settings.items() if value is not None}
    check_settings([name], given if baselines is None else {**given, "baselines": baselines})
    started = time.perf_counter()
    before = encoder.digest()
    with_baselines = name in _WITH_BASELINES and _wants_baselines(name, baselines, given)
    if baselines and name not in _WITH_BASELINES:
        given.setdefault("from_scratch", True)
    outcome = _choose_protocol(name, given)(encoder, train_source, test_source, **given)
    if with_baselines:
        measured = measured or Baselines(train_source, test_source)
        outcome = _add_baselines(outcome, name, encoder, measured, given)
    after = encoder.digest()
    if after != before:
        raise InputError(
            f"The model in {encoder.directory} changes its own weights when it is used, so the "
            "figure would be worth nothing: export it in inference mode."
        )
    return ProtocolCard(
        protocol=name,
        encoder={
            "id": encoder.id,
            "directory": encoder.directory,
            "sha256": before,
            "sha256_after": after,
        },
        data={
            "train": protocol_card.describe_source(train_source),
            "test": protocol_card.describe_source(test_source),
        },
        settings=outcome.settings,
        result=outcome.result,
        files=outcome.files,
        notes=outcome.notes,
        seconds=time.perf_counter() - started,
    )


def _choose_protocol(name, given):
    """The function of a protocol, on a part of the labels where one is given."""
    protocol = _PROTOCOLS[name]
    if name in _WITH_SUBSETS and not {*_OF_SUBSETS}.isdisjoint(given):
        return functools.partial(labelled_subset.measure, protocol)
    return protocol


def _wants_baselines(name, baselines, given):
    looks_up = given.get("queries") is not None
    if looks_up and baselines:
        raise InputError(
            "--baselines are other figures to compare with, and --queries gives none: leave one "
            "out."
        )
    return not looks_up and (_WITH_BASELINES[name][1] if baselines is None else baselines)


def _add_baselines(outcome, name, encoder, measured, given):
    """The outcome with the figures of the baselines, and a note where one is ahead."""
    figure, _ = _WITH_BASELINES[name]
    own_settings = {key: value for key, value in given.items() if key not in _OF_LAYERS}
    if name == "knn":
        own_settings.update({key: outcome.settings[key][:1] for key in _GRID})
    if "near_duplicates" in known_settings(name):  # They are those of the encoder's features.
        own_settings["near_duplicates"] = False
    protocol = functools.partial(_choose_protocol(name, given), **own_settings)
    figures = measured.measure(encoder, f"{name} {own_settings}", protocol, figure)
    note = judge(_own_figure(outcome.result, figure), figures)
    added = {
        f"untrained_{figure}_std" if key == "untrained_std" else f"{key}_{figure}": value
        for key, value in figures.items()
    }
    return dataclasses.replace(
        outcome,
        settings={**outcome.settings, "baselines": PROTOCOL},
        result={**outcome.result, **added},
        notes=(*outcome.notes, *([note] if note else ())),
    )


def _own_figure(result, figure):
    """The encoder's, of its best layer; of a grid, at its first k and temperature."""
    values = [v for name, v in result.items() if name == figure or name.endswith(f"_{figure}")]
    if values:
        return max(values)
    rows = result["grid"]
    first = [row for row in rows if all(row.get(key) == rows[0].get(key) for key in _GRID)]
    return max(row[figure] for row in first)


def known_settings(name):
    """Names of the settings that a protocol takes."""
    own = [p.name for p in list(inspect.signature(_PROTOCOLS[name]).parameters.values())[3:]]
    return [*own, *(_OF_SUBSETS if name in _WITH_SUBSETS else ()), "baselines"]


def check_settings(names, settings):
    """Raises `InputError` unless each setting means something to a protocol, and can be."""
    known = list(dict.fromkeys(setting for name in names for setting in known_settings(name)))
    for setting in settings:
        if setting not in known:
            raise InputError(
                f"--{setting} means nothing to --protocol={' or '.join(names)}, which knows "
                f"{', '.join(f'--{each}' for each in known)}: leave it out."
            )
    setting_rules.check(settings)
