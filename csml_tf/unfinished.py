"""Models by name, those of runs that have not finished among them."""

from __future__ import annotations

import os
import pathlib

import tensorflow as tf
from absl import logging

from csml_tf import places, recipes, run_cards
from csml_tf.errors import InputError
from csml_tf.export import saved_model
from csml_tf.training import checkpoint
from csml_tf.training.checkpoint_files import CheckpointFiles
from csml_tf.training.run_directory import RunDirectory
from csml_tf.zoo import registry

FOLDER = "unfinished_model"


def find_model(id_or_dir: str | os.PathLike, trust_model: bool = False) -> pathlib.Path:
    """The folder of a SavedModel; of a run that goes on still, what its newest checkpoint gives.

    Args:
        id_or_dir: as for `registry.find_saved_model`.
        trust_model: likewise.

    Raises:
        InputError: if there is no such model, none of the run's checkpoints can be read, or the
            model is not trusted.
    """
    path = places.at(places.expand(id_or_dir, "The model"))
    if not (path / "config.gin").is_file() or not (path / "checkpoints").is_dir():
        return registry.find_saved_model(id_or_dir, trust_model)
    directory = RunDirectory(path)
    exported_epochs = _epochs_of(directory.saved_model)
    files = CheckpointFiles(directory.checkpoints)
    for number in reversed(files.numbers()):
        prefix = files.prefix(number)
        progress = checkpoint.read_progress(prefix)
        if progress is None:
            continue
        if progress.epoch <= exported_epochs:
            break
        if files.find_damage(number) is not None:
            continue
        logging.info("%s has not finished: its encoder after %s is taken.", path, progress)
        folder = path / FOLDER
        if _read_card(folder).get("checkpoint") != _stamp(prefix):
            _export(directory, prefix, progress, folder)
        return registry.find_saved_model(folder, trust_model)
    return registry.find_saved_model(id_or_dir, trust_model)


def _stamp(prefix):
    """Tells a checkpoint from one of the same number that another run has left."""
    index = places.at(f"{prefix}.index")
    return f"{index.name} {index.stat().st_mtime_ns}"


def _epochs_of(folder):
    """Epochs of an export; -1 where there is none."""
    if not (folder / "saved_model.pb").exists():
        return -1
    return _read_card(folder).get("epochs") or 0


def _read_card(folder):
    """The card of an export; {} where there is none that can be read."""
    try:
        return saved_model.read_card(folder)
    except InputError:
        return {}


def _export(directory, prefix, progress, folder):
    recipe = recipes.parse([directory.config])
    model = recipe.make_model()
    try:
        state = tf.train.Checkpoint(model=model).read(prefix)
        state.assert_existing_objects_matched().expect_partial()
    except (tf.errors.OpError, OSError, ValueError, AssertionError) as error:
        raise InputError(
            f"The checkpoint {prefix} does not fit the recipe in {directory.config}: let csml-tf "
            "train finish the run with the program that began it."
        ) from error
    center_view = recipe.make_center_view()
    card = {
        **run_cards.describe_encoder(recipe, model, center_view, directory),
        "data": directory.dataset(),
        "epochs": progress.epoch,
        "step": progress.step,
        "checkpoint": _stamp(prefix),
    }
    saved_model.export(model.encoder, folder, center_view.mean, center_view.std, card)
