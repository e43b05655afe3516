"""What a pretraining command does: train, export the encoder, write its card."""

import dataclasses
import functools
import shlex
from collections.abc import Sequence
from typing import Any, Callable, Optional, Union

from absl import logging

from csml_tf import code_version
from csml_tf.augment.center_view import CenterView
from csml_tf.data import catalog
from csml_tf.data.sources.base import ImageSource
from csml_tf.errors import InputError
from csml_tf.evaluation import labelled_pair
from csml_tf.export import model_card, saved_model
from csml_tf.training import workers
from csml_tf.training.run_directory import RunDirectory
from csml_tf.zoo import initial_weights, registry


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What a run needs to know, however it is written down; `recipes.parse` makes one of gin.

    Attributes:
        files: names of the recipe's files.
        bindings: overrides of them, such as "EPOCHS = 10".
        name: of the run's directory, where none is given.
        dataset: data set string; None where the recipe names none.
        read_settings: function of no arguments that returns, as `settings`, {name: value} of the
            knobs in effect, and of what overrides them, for the card.
        settings: function of no arguments that returns, once everything is built, all
            settings in effect as text.
        make_center_view: function of no arguments that returns a `CenterView`.
        make_monitors: function of (train source, test source, center_view) that returns the
            `monitors` of `training.pretrain.run`.
        train: `training.pretrain.run` but for what the recipe sets; returns the model.
        collect_step: `training.step_images.collect` but for what the recipe sets.
    """

    files: Sequence[str]
    bindings: Sequence[str]
    name: str
    dataset: Optional[str]
    read_settings: Callable[[], dict]
    settings: Callable[[], str]
    make_center_view: Callable[[], CenterView]
    make_monitors: Callable[..., list]
    train: Callable[..., Any]
    collect_step: Callable[..., Any]

    def describe(self) -> str:
        """Files and overrides, in a line: "r50.gin with EPOCHS = 10"."""
        files = ", ".join(name.rpartition("/")[2] for name in self.files)
        overrides = ", ".join(" ".join(binding.split()) for binding in self.bindings)
        return f"{files} with {overrides}" if overrides else files

    def choose_dataset(self, dataset: Optional[str] = None) -> str:
        """The data set given, or else the recipe's own.

        Raises:
            InputError: if there is neither.
        """
        dataset = dataset or self.dataset
        if dataset is None:
            raise InputError("The recipe sets no DATASET: name one with --dataset.")
        return dataset


def pretrain(
    recipe: Recipe,
    model_dir: Optional[str],
    strategy,
    dataset: Union[str, ImageSource, None] = None,
    data_dir: Optional[str] = None,
    download: bool = False,
    init_from: Optional[str] = None,
    callbacks: Sequence = (),
    trust_model: bool = False,
) -> RunDirectory:
    """Trains as a recipe says, and exports the encoder; goes on where an earlier call ended.

    Args:
        recipe: `Recipe`.
        model_dir: the run directory; None takes `runs/<name of the recipe>`.
        strategy: `tf.distribute.Strategy`.
        dataset: data set string, or a source of images; None takes the recipe's.
        data_dir: where TFDS finds its data sets; None takes TFDS' own default.
        download: whether TFDS may download the data set.
        init_from: run directory or SavedModel folder whose weights a new run begins with; None
            begins with random ones.
        callbacks: Keras callbacks of the training; none leaves those of the recipe.
        trust_model: as for `registry.find_saved_model`, of `init_from`.

    Returns:
        The directory of the finished run.

    Raises:
        InputError: if recipe, data and run directory do not fit each other.
    """
    opened = None
    if isinstance(dataset, ImageSource):
        source, name = dataset, dataset.name
    else:
        name = recipe.choose_dataset(dataset)
        opened = catalog.open_dataset(name, data_dir, download)
        source = opened.split("pretrain")
    logging.info("%s: %d images", source.name, len(source))
    directory = RunDirectory(model_dir or f"runs/{recipe.name}")
    initialize, origin = _find_origin(init_from, directory, trust_model)

    def settings():
        notes = f"# Recipe: {recipe.describe()}\n# Data set: {name}\n"
        return f"{notes}DATASET = {name!r}\n{origin}{recipe.settings()}"

    try:
        center_view = recipe.make_center_view()
        pair = None if opened is None else _open_pair(opened)
        monitors = [] if pair is None else recipe.make_monitors(*pair, center_view)
        model = recipe.train(
            *(directory, source, strategy, center_view, settings, monitors, initialize),
            tuple(callbacks),
        )
    except InputError:
        directory.leave()
        raise
    card = {
        **_describe(recipe, model, source, name, center_view, directory),
        "command": _describe_command(recipe, dataset, init_from),
    }
    with workers.own_directory(strategy, directory) as own_directory:
        saved_model.export(
            model.encoder, own_directory.saved_model, center_view.mean, center_view.std, card
        )
        workers.meet(strategy)
    return directory


def _find_origin(init_from, directory, trust_model):
    """-> (what sets the weights of a new run, or None; the settings that tell it from others)."""
    if init_from is None:
        return None, ""
    place = f"INIT_FROM = {str(init_from)!r}\n"
    try:
        found = registry.find_saved_model(init_from, trust_model)
    except InputError:
        if directory.has_checkpoints():  # The weights have been taken from there long ago.
            return None, place
        directory.leave()
        raise
    initialize = functools.partial(initial_weights.load, found)
    return initialize, f"{place}INIT_FINGERPRINT = {initial_weights.fingerprint(found)!r}\n"


def _open_pair(opened):
    """The labelled sources that accuracy is measured by; None where there are none."""
    source = opened.split("pretrain")
    if source.labels is None:
        logging.info("%s has no labels: accuracy is not measured.", source.name)
        return None
    train, test = opened.split("train"), opened.split("test")
    try:
        labelled_pair.check(train, test)
    except InputError as error:  # Training does without.
        logging.warning("Accuracy is not measured during training: %s", error)
        return None
    return train, test


def _describe(recipe, model, source, dataset, center_view, directory):
    """The card of the run's encoder, but for the command."""
    settings = recipe.read_settings()
    if "DATASET" in settings:
        settings["DATASET"] = dataset  # Not that of the recipe, where another was given.
    return {
        "id": directory.path.resolve().name,
        "recipe": settings,
        "data": source.name,
        "data_fingerprint": source.fingerprint,
        "image_size": center_view.image_size,
        "resize_size": center_view.resize_size,
        "feature_dim": model.encoder.feature_dim,
        "epochs": int(model.epoch.numpy()) + 1,
        "trained_by": directory.read_notes().get("Code", "not recorded"),
        "csml_tf": code_version.version(),
        "commit": code_version.commit(),
        "curve": _read_curve(directory),
        "metrics": _read_metrics(directory),
    }


def _describe_command(recipe, dataset, init_from):
    """What trains once more as the recipe says, wherever its data may lie."""
    if isinstance(dataset, ImageSource):
        options = "".join(f", {binding.replace(' = ', '=')}" for binding in recipe.bindings)
        options += "" if init_from is None else f", init_from={str(init_from)!r}"
        return f"csml_tf.pretrain(images, {recipe.files[-1]!r}{options})"
    words = [f"--gin_file={name}" for name in recipe.files]
    words += [f"--gin_bindings={' '.join(binding.split())}" for binding in recipe.bindings]
    words += [] if dataset is None else [f"--dataset={dataset}"]
    words += [] if init_from is None else [f"--init_from={init_from}"]
    return f"csml-tf train {shlex.join(words)}"


def _read_curve(directory):
    """Loss and accuracy by epochs."""
    names = ("epoch", "loss", "knn_top1")
    return [{name: row[name] for name in names if name in row} for row in directory.read_metrics()]


def _read_metrics(directory):
    """What a finished run measured last."""
    return [
        model_card.metric("kNN top-1", row["knn_top1"], row["knn_protocol"])
        for row in directory.read_metrics()[-1:]
        if "knn_top1" in row
    ]
