"""What a pretraining command does: train, export the encoder, write its card."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, Callable, Optional, Union

from absl import logging

from csml_tf import places, run_cards
from csml_tf.augment.center_view import CenterView
from csml_tf.data import catalog
from csml_tf.data.sources.base import ImageSource
from csml_tf.errors import InputError
from csml_tf.evaluation import labelled_pair
from csml_tf.evaluation.frozen_encoder import FrozenEncoder
from csml_tf.export import model_card, saved_model
from csml_tf.training import (
    automatic,
    checkpoint,
    plan,
    run_directory,
    settling,
    step_clock,
    time_left,
    workers,
)
from csml_tf.training.best_encoder import BestEncoder
from csml_tf.training.run_directory import RunDirectory
from csml_tf.zoo import initial_weights, registry

_BEST_FOLDER = "best_model"


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What a run needs to know, however it is written down; `recipes.parse` makes one of gin.

    Attributes:
        files: names of the recipe's files.
        bindings: overrides of them, such as "EPOCHS = 10".
        name: of the run's directory, where none is given.
        dataset: data set string; None where the recipe names none.
        knobs: {name: plain value} of all knobs but those that a function gives their values.
        read_settings: function of no arguments that returns, as `settings`, {name: value} of the
            knobs in effect, and of what overrides them, for the card.
        settings: function of no arguments that returns, once everything is built, all
            settings in effect as text.
        make_model: function of no arguments that returns a new, random `TrainingModel`.
        fill: function of {knob: value} that returns the recipe with these values.
        assemble: `training.assembly.assemble` but for what the recipe sets.
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
    knobs: dict
    read_settings: Callable[[], dict]
    settings: Callable[[], str]
    make_model: Callable[[], Any]
    fill: Callable[[dict], "Recipe"]
    assemble: Callable[..., Any]
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
        trust_model: as for `registry.find_saved_model`, of `init_from` and of the recipe's
            MINE_WITH.

    Returns:
        The directory of the finished run.

    Raises:
        InputError: if recipe, data and run directory do not fit each other.
    """
    source, name, pair = _open_data(recipe, dataset, data_dir, download)
    path = model_dir or f"runs/{recipe.name}"
    directory = RunDirectory(path)
    try:
        begun = directory.has_checkpoints()
        encoder = _find_model(init_from, begun, trust_model)
        teacher = _find_model(recipe.knobs.get("MINE_WITH"), begun, trust_model)
        recipe = _settle(recipe, source, strategy, path, encoder)
    except InputError:
        directory.leave()
        raise
    initialize = None if encoder is None else functools.partial(initial_weights.load, encoder)
    open_teacher = None if teacher is None else functools.partial(_open_teacher, teacher)
    origin = "" if init_from is None else f"INIT_FROM = {str(init_from)!r}\n"
    for setting, model in (("INIT_FINGERPRINT", encoder), ("MINE_WITH_FINGERPRINT", teacher)):
        if model is not None:
            origin += f"{setting} = {initial_weights.fingerprint(model)!r}\n"

    def settings():
        notes = f"# Recipe: {recipe.describe()}\n# Data set: {name}\n"
        return f"{notes}DATASET = {name!r}\n{origin}{recipe.settings()}"

    try:
        center_view = recipe.make_center_view()
        monitors = [] if pair is None else recipe.make_monitors(*pair, center_view)
        model = recipe.train(
            *(directory, source, strategy, center_view, settings, monitors, initialize),
            *(tuple(callbacks), open_teacher),
        )
    except InputError:
        directory.leave()
        raise
    card = {
        **run_cards.describe(recipe, model, source, name, center_view, directory),
        "command": run_cards.describe_command(recipe, dataset, init_from),
    }
    with workers.own_directory(strategy, directory) as own_directory:
        saved_model.export(
            model.encoder, own_directory.saved_model, center_view.mean, center_view.std, card
        )
        if workers.is_alone(strategy):
            _export_best(own_directory, model.encoder, center_view, card)
        workers.meet(strategy)
    return directory


def _find_model(id_or_dir, begun, trust_model):
    """The folder of a model that a new run needs, or one that has begun; None without one."""
    if id_or_dir is None:
        return None
    try:
        return registry.find_saved_model(id_or_dir, trust_model)
    except InputError:
        if begun:  # Weights or neighbors have been taken from it long ago.
            return None
        raise


def _open_teacher(folder):
    """What `NeighborRefresh` mines with in place of the run's own encoder."""
    teacher = FrozenEncoder(folder)
    return teacher.encode(), teacher.center_view


def _export_best(directory, encoder, center_view, card):
    """Writes the encoder of the best epoch by kNN beside the last one, where it is another."""
    folder = directory.path / _BEST_FOLDER
    kept = BestEncoder(directory)
    best = kept.load(encoder)
    if best is None:
        if kept.find() in directory.read_metrics()[-1:]:  # A run that went on has outdone it.
            places.remove_folder(folder)
        return
    metric = model_card.metric("kNN top-1", best["knn_top1"], best["knn_protocol"])
    card = {**card, "epochs": best["epoch"], "metrics": [metric]}
    saved_model.export(encoder, folder, center_view.mean, center_view.std, card)
    logging.info(
        "kNN was best after epoch %d, %.2f %%: that encoder is in %s.",
        *(best["epoch"], 100 * best["knn_top1"], folder),
    )


def dry_run(
    recipe: Recipe,
    model_dir: Optional[str],
    strategy,
    dataset: Union[str, ImageSource, None] = None,
    data_dir: Optional[str] = None,
    download: bool = False,
    init_from: Optional[str] = None,
    trust_model: bool = False,
) -> None:
    """Logs what `pretrain` would do, and how long by a few timed steps; writes nothing.

    Args and errors are those of `pretrain`. Of a run that has begun it is what is left.
    """
    source, _, pair = _open_data(recipe, dataset, data_dir, download)
    path = places.at(model_dir or f"runs/{recipe.name}")
    progress = checkpoint.find_progress(path / "checkpoints")
    begun = progress != checkpoint.Progress()
    encoder = _find_model(init_from, begun, trust_model)
    _find_model(recipe.knobs.get("MINE_WITH"), begun, trust_model)
    recipe = _settle(recipe, source, strategy, path, encoder)
    center_view = recipe.make_center_view()
    monitors = [] if pair is None else recipe.make_monitors(*pair, center_view)
    assembled = recipe.assemble(source, strategy, center_view)
    if progress.epoch >= assembled.parts.epochs:
        plan.log_finished(path, assembled.parts.epochs)
        return
    plan.log_training(assembled)
    plan.log_resumption(path, progress)
    pace = step_clock.measure(assembled)
    time_left.announce(pace, assembled, monitors, progress)


def _settle(recipe, source, strategy, path, encoder):
    """The recipe without open knobs, which fit an encoder to begin with, or None."""
    earlier = run_directory.settings_of_earlier(path)
    is_open = automatic.OPEN in recipe.knobs.values()
    network = initial_weights.describe(encoder) if encoder and is_open and not earlier else {}
    return settling.settle(recipe, source, strategy, earlier, network)


def _open_data(recipe, dataset, data_dir, download):
    """(source of training images, name of the data set, labelled pair or None); logs them."""
    if isinstance(dataset, ImageSource):
        source, name, pair = dataset, dataset.name, None
    else:
        name = recipe.choose_dataset(dataset)
        opened = catalog.open_dataset(name, data_dir, download)
        source, pair = opened.split("pretrain"), _open_pair(opened)
    plan.log_data(source, pair)
    return source, name, pair


def _open_pair(opened):
    """The labelled sources that accuracy is measured by; None where there are none."""
    if opened.split("pretrain").labels is None:
        return None
    train, test = opened.split("train"), opened.split("test")
    try:
        labelled_pair.check(train, test)
    except InputError as error:  # Training does without.
        logging.warning("Accuracy is not measured during training: %s", error)
        return None
    return train, test
