"""Gives the knobs that a recipe leaves open their values, and says why."""

from __future__ import annotations

import ast
import dataclasses
import types
from collections.abc import Mapping
from typing import Any

import tensorflow as tf
from absl import logging

from csml_tf.data.sources.base import ImageSource
from csml_tf.errors import InputError
from csml_tf.models.backbones import catalog
from csml_tf.training import automatic, facts, step_clock, workers

_OF_RESNETS = ("DEPTH", "WIDTH", "STEM")


def settle(
    recipe: Any,
    source: ImageSource,
    strategy: tf.distribute.Strategy,
    earlier: Mapping[str, str],
    encoder: Mapping[str, Any] = types.MappingProxyType({}),
    timed: bool = True,
) -> Any:
    """The recipe with a value for every knob that is `automatic.OPEN` in it.

    Args:
        recipe: `runs.Recipe`.
        source: of the training images.
        strategy: of the run.
        earlier: {name: value as it is written} in the `config.gin` of a run that goes on, whose
            values are kept; {} for a new run.
        encoder: {knob: value} of the encoder whose weights a new run begins with, of which open
            knobs take theirs; {} where it begins with none, or they are not known.
        timed: whether a few steps are trained for the epochs that HOURS allows; else these are
            estimated.

    Raises:
        InputError: if a knob has no automatic value, one contradicts the encoder, or there are
            too few images or too little time.
    """
    open_knobs = [name for name, value in recipe.knobs.items() if value == automatic.OPEN]
    if not open_knobs:
        return recipe
    kept = {name: _value(name, earlier[name]) for name in open_knobs if name in earlier}
    given = {name: value for name, value in recipe.knobs.items() if name not in open_knobs}
    _check_encoder(encoder, given)
    fitting = {name: encoder[name] for name in open_knobs if name in encoder}
    kept = {**fitting, **kept}
    found = facts.collect(source, strategy, "PRECISION" in {*open_knobs} - {*kept})
    choices = automatic.choose(found, {**given, **kept})
    unknown = sorted({*open_knobs} - {*kept} - {*choices})
    if unknown:
        raise InputError(
            f"{unknown[0]} has no automatic value: give it one, in the recipe or with "
            "--gin_bindings."
        )
    values = {**{name: choices[name].value for name in open_knobs if name in choices}, **kept}
    recipe = recipe.fill(values)
    if timed and given.get("HOURS") is not None and "EPOCHS" in choices:
        logging.info("Timing a few steps, since HOURS = %s.", given["HOURS"])
        assembled = recipe.assemble(source, strategy, recipe.make_center_view())
        anchors = assembled.parts.global_batch_size
        pace = _share(strategy, step_clock.measure(assembled))
        found = dataclasses.replace(
            found,
            anchors_per_sec=anchors / pace.step_s,
            between_epochs_s=pace.between_epochs_s,
        )
        network = {name: values[name] for name in automatic.BEFORE_EPOCHS if name in values}
        choices.update(automatic.choose(found, {**given, **kept, **network}))
        values.update({name: choices[name].value for name in choices if name in open_knobs})
        recipe = recipe.fill(values)
    names = [f"{name} = {values[name]!r}" for name in kept if name in earlier]
    if names:
        logging.info("Chosen when the run began, and kept: %s.", ", ".join(names))
    is_resnet = given.get("BACKBONE", catalog.RESNET) == catalog.RESNET
    unused = () if is_resnet else _OF_RESNETS
    for name in open_knobs:
        if name in fitting and name not in earlier:
            logging.info("%s = %r: as the encoder in --init_from", name, values[name])
        elif name in choices and name not in kept and name not in unused:
            logging.info("%s = %r: %s", name, choices[name].value, choices[name].reason)
    return recipe


def _value(name, text):
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError) as error:
        raise InputError(
            f"The run's config.gin has no value for {name} ({text}): bring the file back as it "
            "was, or choose another --model_dir."
        ) from error


def _check_encoder(encoder, given):
    for name, value in encoder.items():
        if name in given and given[name] != value:
            raise InputError(
                f"{name} = {given[name]!r} is not that of the encoder in --init_from, which has "
                f"{name} = {value!r}: give this, or nothing where the recipe chooses it."
            )


def _share(strategy, pace):
    """The first worker's `Pace`: they differ, and what is chosen by it may not."""
    numbers = (round(1e6 * seconds) for seconds in dataclasses.astuple(pace))
    return step_clock.Pace(
        *(workers.share_number(strategy, lambda own=own: own) / 1e6 for own in numbers)
    )
