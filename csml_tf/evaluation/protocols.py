"""The protocols by name, and the card that every one of them leaves."""

import inspect
import time

from csml_tf import choices, setting_rules
from csml_tf.errors import InputError
from csml_tf.evaluation import knn, protocol_card
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


def measure(name, encoder, train_source, test_source, **settings):
    """Measures an encoder by one of the protocols.

    Args:
        name: one of `NAMES`.
        encoder: `FrozenEncoder`.
        train_source: labelled `ImageSource` to learn from.
        test_source: labelled `ImageSource` to be tested on.
        **settings: of the protocol; those that are None take its defaults.

    Returns:
        `ProtocolCard`.

    Raises:
        InputError: if a setting means nothing to the protocol, the encoder's weights have
            changed, or as the protocol does.
    """
    protocol = _PROTOCOLS[name]
    given = {setting: value for setting, value in settings.items() if value is not None}
    check_settings([name], given)
    started = time.perf_counter()
    before = encoder.digest()
    outcome = protocol(encoder, train_source, test_source, **given)
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
        seconds=time.perf_counter() - started,
    )


def known_settings(name):
    """Names of the settings that a protocol takes."""
    return [p.name for p in list(inspect.signature(_PROTOCOLS[name]).parameters.values())[3:]]


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
