"""Recipes: the one module that knows gin, and every name that a recipe may use."""

import difflib
import inspect
import pathlib
import re

import gin
from absl import logging

from csml_tf.augment.center_view import CenterView
from csml_tf.augment.view import ViewAugmentation
from csml_tf.data.sources import catalog
from csml_tf.errors import InputError
from csml_tf.evaluation.knn import KnnEvaluation
from csml_tf.evaluation.knn_monitor import KnnMonitor
from csml_tf.export import saved_model
from csml_tf.models.csml import CsMl
from csml_tf.models.encoder import MultiLevelEncoder
from csml_tf.models.resnet import make_resnet
from csml_tf.training import optim, pretrain as pretraining
from csml_tf.training.neighbor_refresh import NeighborRefresh
from csml_tf.training.run_directory import RunDirectory

_RECIPE_FOLDER = pathlib.Path(__file__).resolve().parent.parent / "gin_configs"

_CONFIGURABLES = (
    CenterView,
    CsMl,
    KnnEvaluation,
    KnnMonitor,
    MultiLevelEncoder,
    NeighborRefresh,
    ViewAugmentation,
    make_resnet,
    optim.TorchSGD,
    optim.cosine_schedule,
    optim.step_schedule,
)
for _configurable in _CONFIGURABLES:
    # `register` leaves the class as it is; only references in a recipe are configured.
    gin.register(_configurable)
_run = gin.external_configurable(pretraining.run, name="pretrain")


def parse(gin_files, bindings=()):
    """Reads recipes and overrides into gin, in place of what was read before.

    Args:
        gin_files: names of recipes, looked up in the current folder, then in
            `gin_configs/`.
        bindings: overrides such as "EPOCHS = 10".

    Raises:
        InputError: if a file is missing or a name in it does not exist; names the
            nearest one that does.
    """
    gin.clear_config()
    gin.add_config_file_search_path(str(_RECIPE_FOLDER))
    try:
        gin.parse_config_files_and_bindings(list(gin_files), None, finalize_config=False)
        for binding in bindings:
            _check_knob(binding)
            gin.parse_config(binding)
        gin.finalize()
    except OSError as error:
        raise InputError(
            f"There is no recipe {', '.join(gin_files)} here or in gin_configs/ (or a file that "
            f"it includes is missing): choose one of {', '.join(list_recipes())}."
        ) from error
    except (ValueError, SyntaxError) as error:
        raise InputError(_explain(str(error))) from error


def list_recipes():
    """File names of the recipes in `gin_configs/`."""
    return sorted(path.name for path in _RECIPE_FOLDER.glob("*.gin"))


def pretrain(model_dir, strategy, dataset=None, data_dir=None, download=False):
    """Trains as the parsed recipe says, and exports the encoder.

    Args:
        model_dir: the run directory.
        strategy: `tf.distribute.Strategy`.
        dataset: data set string; None takes the recipe's DATASET.
        data_dir: where TFDS finds its data sets; None takes TFDS' own default.
        download: whether TFDS may download the data set.

    Returns:
        One line about the finished run.

    Raises:
        InputError: if recipe, data and run directory do not fit each other.
    """
    dataset = dataset or gin.query_parameter("%DATASET")
    source = catalog.open_source(dataset, "pretrain", data_dir, download)
    logging.info("%s: %d images", source.name, len(source))
    center_view = gin.get_configurable("CenterView")()
    directory = RunDirectory(model_dir)
    monitors = _make_monitors(source, dataset, data_dir, center_view)

    def settings():
        return f"# Data set: {dataset}\nDATASET = {dataset!r}\n{gin.operative_config_str()}"

    try:
        model = _run(directory, source, strategy, settings, monitors, center_view=center_view)
    except ValueError as error:
        raise _value_fault(error) from error
    last_row = directory.read_metrics()[-1]
    card = {
        "id": directory.path.name,
        "data": source.name,
        "image_size": center_view.image_size,
        "resize_size": center_view.resize_size,
        "feature_dim": model.query_encoder.feature_dim,
        "epochs": last_row["epoch"],
    }
    saved_model.export(
        model.query_encoder, directory.saved_model, center_view.mean, center_view.std, card
    )
    return directory.summary()


def _check_knob(binding):
    """A knob that no recipe reads would be an override without effect."""
    match = re.match(r"\s*(\w+)\s*=", binding)
    if match is None:
        return
    knobs = re.findall(r"^(\w+) = ", gin.config_str(), re.MULTILINE)
    if match[1] not in knobs:
        raise InputError(
            f"The recipe has no knob {match[1]!r}{_nearest(match[1], knobs)}: its knobs are "
            f"{', '.join(knobs)}."
        )


def _explain(message):
    """Gin's message in one sentence, with the nearest name that exists."""
    first_line = message.strip().splitlines()[0].rstrip(".")
    configurables = {c.__name__: c for c in (*_CONFIGURABLES, _run)}
    unknown = re.match(r"No configurable matching (?:reference )?'@?(\w+)", first_line)
    if unknown:
        return f"{first_line}{_nearest(unknown[1], configurables)}: mend the name."
    unknown = re.match(r"Configurable '([\w.]+)' doesn't have a parameter named '(\w+)'", first_line)
    if unknown:
        configurable = configurables.get(unknown[1].split(".")[-1])
        parameters = inspect.signature(configurable).parameters if configurable else ()
        return f"{first_line}{_nearest(unknown[2], parameters)}: mend the name."
    return f"The recipe cannot be read ({' '.join(message.split())}): mend that line."


def _nearest(name, known):
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _value_fault(error):
    """`InputError` for a value that a recipe's class refused; else the error itself."""
    culprit = re.search(r"In call to configurable '(\w+)'", str(error))
    if isinstance(error, InputError) or culprit is None or culprit[1] == "pretrain":
        return error
    return InputError(f"{culprit[1]}: {str(error).strip().splitlines()[0]}")


def _make_monitors(source, dataset, data_dir, center_view):
    """The kNN monitor, where there are labels to measure it by."""
    if source.labels is None:
        logging.info("%s has no labels: kNN accuracy is not measured.", source.name)
        return []
    train, test = (catalog.open_source(dataset, split, data_dir) for split in ("train", "test"))
    evaluation = gin.get_configurable("KnnEvaluation")(train, test, center_view)
    return [gin.get_configurable("KnnMonitor")(evaluation)]
