"""Recipes: the one module that knows gin, and every name that a recipe may use."""

import contextlib
import difflib
import functools
import inspect
import logging as std_logging
import os
import pathlib
import re
import shlex
import sys
import tokenize

import gin
from absl import logging

from csml_tf import code_version
from csml_tf.augment.center_view import CenterView
from csml_tf.augment.view import ViewAugmentation
from csml_tf.data.sources import catalog
from csml_tf.errors import InputError
from csml_tf.evaluation import labelled_pair
from csml_tf.evaluation.knn import KnnEvaluation
from csml_tf.evaluation.knn_monitor import KnnMonitor
from csml_tf.evaluation.linear_monitor import LinearEvaluation, LinearMonitor
from csml_tf.export import model_card, saved_model
from csml_tf.models.backbones.applications import make_application
from csml_tf.models.backbones.catalog import make_backbone
from csml_tf.models.backbones.resnet import make_resnet
from csml_tf.models.csml import CsMl
from csml_tf.models.encoder import MultiLevelEncoder
from csml_tf.reports import canvas
from csml_tf.reports import views as views_report
from csml_tf.training import optim, run_directory, step_images, workers
from csml_tf.training import pretrain as pretraining
from csml_tf.training.neighbor_refresh import NeighborRefresh
from csml_tf.training.run_directory import RunDirectory
from csml_tf.training.share_of_epochs import share_of_epochs
from csml_tf.zoo import initial_weights, registry

_RECIPE_FOLDER = pathlib.Path(__file__).resolve().parent.parent / "gin_configs"
_PARTS_FOLDER = "base"  # Holds what recipes include.

_CONFIGURABLES = (
    CenterView,
    CsMl,
    KnnEvaluation,
    KnnMonitor,
    LinearEvaluation,
    LinearMonitor,
    MultiLevelEncoder,
    NeighborRefresh,
    ViewAugmentation,
    make_application,
    make_backbone,
    make_resnet,
    optim.TorchSGD,
    optim.cosine_schedule,
    optim.step_schedule,
    share_of_epochs,
)
for _configurable in _CONFIGURABLES:
    # `register` leaves the class as it is; only references in a recipe are configured.
    gin.register(_configurable)
_run = gin.external_configurable(pretraining.run, name="pretrain")
# What `parse` was given last, for the notes of a run.
_parsed = {"gin_files": (), "bindings": ()}
_BY_NAME = {"pretrain": pretraining.run, **{c.__name__: c for c in _CONFIGURABLES}}
gin.add_config_file_search_path(str(_RECIPE_FOLDER))


def parse(gin_files, bindings=()):
    """Reads recipes and overrides into gin, in place of what was read before.

    Args:
        gin_files: names of recipes, looked up in the current folder, then in
            `gin_configs/`. A module that one of them imports is looked up in the current
            folder, too.
        bindings: overrides such as "EPOCHS = 10".

    Raises:
        InputError: if a file is missing or a name in it does not exist; names the
            nearest one that does.
    """
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # Last, so that nobody's file hides a library.
    gin.clear_config()
    try:
        with _without_search_log():
            gin.parse_config_files_and_bindings(list(gin_files), None, finalize_config=False)
            for binding in bindings:
                _check_knobs(binding)
                gin.parse_config(binding)
        gin.finalize()
    except InputError:
        raise
    except OSError as error:
        missing = re.match(r"Unable to open file: (.+?)\. Searched", str(error))
        raise InputError(
            f"There is no recipe {missing[1] if missing else ', '.join(gin_files)} here or in "
            f"gin_configs/: choose one of {', '.join(list_recipes())}."
        ) from error
    except ModuleNotFoundError as error:
        raise InputError(
            f"The recipe imports {error.name}, which is neither installed nor in the current "
            "folder: go to the folder that holds it."
        ) from error
    except (ValueError, SyntaxError, tokenize.TokenError) as error:
        raise InputError(_explain(str(error))) from error
    _check_parameters()
    _parsed.update(gin_files=gin_files, bindings=bindings)


def list_recipes():
    """Names of the recipes in `gin_configs/`, those in its folders with the folder's name."""
    names = (path.relative_to(_RECIPE_FOLDER) for path in _RECIPE_FOLDER.rglob("*.gin"))
    return sorted(name.as_posix() for name in names if name.parts[0] != _PARTS_FOLDER)


def pretrain(model_dir, strategy, dataset=None, data_dir=None, download=False, init_from=None):
    """Trains as the parsed recipe says, and exports the encoder.

    Args:
        model_dir: the run directory.
        strategy: `tf.distribute.Strategy`.
        dataset: data set string; None takes the recipe's DATASET.
        data_dir: where TFDS finds its data sets; None takes TFDS' own default.
        download: whether TFDS may download the data set.
        init_from: run directory or SavedModel folder whose weights a new run begins with; None
            begins with random ones.

    Returns:
        One line about the finished run.

    Raises:
        InputError: if recipe, data and run directory do not fit each other.
    """
    command = _describe_command(dataset, init_from)
    dataset = dataset or _read_dataset()
    source = catalog.open_source(dataset, "pretrain", data_dir, download)
    logging.info("%s: %d images", source.name, len(source))
    directory = RunDirectory(model_dir)
    initialize, origin = None, ""
    if init_from is not None:
        found = registry.find_saved_model(init_from)
        initialize = functools.partial(initial_weights.load, found)
        origin = f"INIT_FROM = {str(init_from)!r}\n"

    def settings():
        notes = f"# Recipe: {_describe_parsed()}\n# Data set: {dataset}\n"
        return f"{notes}DATASET = {dataset!r}\n{origin}{gin.operative_config_str()}"

    try:
        center_view = gin.get_configurable("CenterView")()
        monitors = _make_monitors(source, dataset, data_dir, center_view)
        model = _run(
            *(directory, source, strategy, settings, monitors, initialize), center_view=center_view
        )
    except (ValueError, TypeError) as error:
        raise _recipe_fault(error) from error
    card = {
        "id": directory.path.resolve().name,
        "recipe": {name: gin.query_parameter(f"%{name}") for name in _knobs()},
        "data": source.name,
        "data_fingerprint": source.fingerprint,
        "image_size": center_view.image_size,
        "resize_size": center_view.resize_size,
        "feature_dim": model.query_encoder.feature_dim,
        "epochs": int(model.epoch.numpy()) + 1,
        "trained_by": directory.read_notes().get("Code", "not recorded"),
        "csml_tf": code_version.version(),
        "commit": code_version.commit(),
        "command": command,
        "curve": _read_curve(directory),
        "metrics": _read_metrics(directory),
    }
    with workers.own_directory(strategy, directory) as own_directory:
        saved_model.export(
            model.query_encoder, own_directory.saved_model, center_view.mean, center_view.std, card
        )
        workers.meet(strategy)
    return directory.summary()


def views(output, model_dir=None, gin_files=(), bindings=(), dataset=None, data_dir=None, step=1):
    """Draws a page of anchors, their views, neighbours and mixed images, as `views.png`.

    Args:
        output: folder of the page; made when missing.
        model_dir: a run directory: its newest trained epoch is shown.
        gin_files: recipes as for `parse`, in place of a run: what its training would begin
            with, and random images for the neighbours that are not mined yet.
        bindings: overrides of `gin_files`.
        dataset: data set string; None takes the DATASET of the run or recipe.
        data_dir: where TFDS finds its data sets; None takes TFDS' own default.
        step: whose batch is shown, of the epoch, from 1.

    Returns:
        One line about the page.

    Raises:
        InputError: if there is no run, no checkpoint or no data, or no page can be written.
    """
    if bool(model_dir) == bool(gin_files) or (model_dir and bindings):
        raise InputError(
            "Give either --model_dir, a run, or --gin_file, a recipe with its --gin_bindings."
        )
    checkpoints = None
    if model_dir:
        directory = run_directory.find(model_dir)
        gin_files, checkpoints = [str(directory.config)], directory.checkpoints
    parse(gin_files, bindings)
    canvas.prepare(output)
    dataset = dataset or _read_dataset()
    source = catalog.open_source(dataset, "pretrain", data_dir)
    try:
        center_view = gin.get_configurable("CenterView")()
        settings = gin.get_bindings("pretrain")
        wanted = inspect.signature(step_images.collect).parameters
        shown = step_images.collect(
            *(source, center_view, checkpoints, step - 1),
            **{name: value for name, value in settings.items() if name in wanted},
        )
    except (ValueError, TypeError) as error:
        raise _recipe_fault(error) from error
    name = pathlib.Path(model_dir or gin_files[-1]).resolve().stem
    title = f"{name} on {source.name}\n{shown.describe()}"
    path = pathlib.Path(output, "views.png")
    views_report.save_page(shown.anchors, title, path)
    return f"{path}: {len(shown.anchors)} anchors of {name}, {shown.describe()}"


@contextlib.contextmanager
def _without_search_log():
    """Without the error that gin logs for every folder it looks into in vain."""
    root = std_logging.getLogger()
    handler = std_logging.NullHandler()  # Without any, gin's error would add one for good.
    root.addHandler(handler)
    disabled, root.disabled = root.disabled, True
    try:
        yield
    finally:
        root.disabled = disabled
        root.removeHandler(handler)


def _describe_parsed():
    """Recipes and overrides, in a line: "r50.gin with EPOCHS = 10"."""
    files = ", ".join(pathlib.Path(name).name for name in _parsed["gin_files"])
    overrides = ", ".join(" ".join(binding.split()) for binding in _parsed["bindings"])
    return f"{files} with {overrides}" if overrides else files


def _describe_command(dataset, init_from):
    """The command that trains as the parsed recipe says, wherever its data may lie."""
    words = [f"--gin_file={name}" for name in _parsed["gin_files"]]
    words += [f"--gin_bindings={' '.join(binding.split())}" for binding in _parsed["bindings"]]
    words += [] if dataset is None else [f"--dataset={dataset}"]
    words += [] if init_from is None else [f"--init_from={init_from}"]
    return f"python tools/train.py {shlex.join(words)}"


def _read_curve(directory):
    """Loss and accuracy by epochs, for the model card."""
    names = ("epoch", "loss", "knn_top1")
    return [{name: row[name] for name in names if name in row} for row in directory.read_metrics()]


def _read_metrics(directory):
    """What a finished run measured last, for the model card."""
    return [
        model_card.metric("kNN top-1", row["knn_top1"], row["knn_protocol"])
        for row in directory.read_metrics()[-1:]
        if "knn_top1" in row
    ]


def _read_dataset():
    try:
        return gin.query_parameter("%DATASET")
    except ValueError as error:
        raise InputError("The recipe sets no DATASET: name one with --dataset.") from error


def _knobs():
    return re.findall(r"^(\w+) = ", gin.config_str(), re.MULTILINE)


def _check_knobs(binding):
    """A knob that no recipe reads would be an override without effect."""
    knobs = _knobs()
    for name in re.findall(r"^\s*(\w+)\s*=", binding, re.MULTILINE):
        if name not in knobs:
            raise InputError(_unknown_knob(name))


def _unknown_knob(name):
    knobs = _knobs()
    return (
        f"The recipe has no knob {name!r}{_nearest(name, knobs)}: its knobs are {', '.join(knobs)}."
    )


def _check_parameters():
    """Finds the misspelt names that gin lets pass: those of classes that take **kwargs."""
    for name, parameter in re.findall(
        r"^(?:[\w/]+/)?(?:\w+\.)*(\w+)\.(\w+) = ", gin.config_str(), re.MULTILINE
    ):
        if name in _BY_NAME and parameter not in _parameters(_BY_NAME[name]):
            message = f"Configurable {name!r} doesn't have a parameter named {parameter!r}"
            raise InputError(_explain(message))


def _parameters(configurable):
    """Names of the parameters of a function or a class; what **kwargs hands on included."""
    names = []
    makers = [configurable]
    if inspect.isclass(configurable):
        makers = [c.__init__ for c in configurable.__mro__ if "__init__" in vars(c)]
    for maker in makers:
        parameters = inspect.signature(maker).parameters.values()
        names += [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        if not any(p.kind == p.VAR_KEYWORD for p in parameters):
            break
    return [name for name in names if name != "self"]


def _explain(message):
    """The message of gin in one sentence, with the nearest name that exists."""
    first_line = message.strip().splitlines()[0].rstrip(".")
    unknown = re.match(r"No configurable matching (?:reference )?'@?(\w+)", first_line)
    if unknown:
        return f"{first_line}{_nearest(unknown[1], _BY_NAME)}: mend the name."
    unknown = re.match(
        r"Configurable '([\w.]+)' doesn't have a parameter named '(\w+)'", first_line
    )
    if unknown:
        configurable = _BY_NAME.get(unknown[1].split(".")[-1])
        parameters = _parameters(configurable) if configurable else ()
        return f"{first_line}{_nearest(unknown[2], parameters)}: mend the name."
    unknown = re.match(r"No bindings specified for '(\w+)/gin.macro'", first_line)
    if unknown:
        return _unknown_knob(unknown[1])
    return f"The recipe cannot be read ({' '.join(message.split())}): mend that line."


def _nearest(name, known):
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _recipe_fault(error):
    """`InputError` for what a recipe's value made a class refuse; else the error itself."""
    # gin adds a line for each configurable that the error went through, innermost first.
    sentence = str(error).strip().split("\n")[0]
    culprits = re.findall(r"^\s*In call to configurable '(\w+)'", str(error), re.MULTILINE)
    if isinstance(error, InputError):
        return InputError(sentence)
    missing = re.search(r"missing \d+ required .*?: (.+)", sentence)
    if missing and culprits:
        return InputError(
            f'The recipe leaves {culprits[0]} without {missing[1]}: include "base/moco_v2.gin", '
            "which sets them."
        )
    if not culprits or culprits[0] == "pretrain":
        return error
    return InputError(f"{culprits[0]}: {sentence}")


def _make_monitors(source, dataset, data_dir, center_view):
    """The monitors of accuracy, where there are labels to measure it by."""
    if source.labels is None:
        logging.info("%s has no labels: accuracy is not measured.", source.name)
        return []
    train, test = (catalog.open_source(dataset, split, data_dir) for split in ("train", "test"))
    try:
        labelled_pair.check(train, test)
    except InputError as error:  # Training does without.
        logging.warning("Accuracy is not measured during training: %s", error)
        return []
    return [
        gin.get_configurable(f"{kind}Monitor")(
            gin.get_configurable(f"{kind}Evaluation")(train, test, center_view)
        )
        for kind in ("Knn", "Linear")
    ]
