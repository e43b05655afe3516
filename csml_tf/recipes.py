"""Recipes: the one module that knows gin, and every name that a recipe may use."""

import dataclasses
import functools
import inspect
import os
import pathlib
import re
import sys
import tokenize
from collections.abc import Sequence
from typing import Union

import gin

from csml_tf import errors, knob_rules, recipe_files, runs
from csml_tf.augment.center_view import CenterView
from csml_tf.augment.view import ViewAugmentation
from csml_tf.errors import InputError
from csml_tf.evaluation.monitors import (
    KnnEvaluation,
    KnnMonitor,
    LinearEvaluation,
    LinearMonitor,
)
from csml_tf.methods.byol import BYOL
from csml_tf.methods.cross_samples import CrossSamples
from csml_tf.methods.csml import CsMl
from csml_tf.methods.moco import MoCo
from csml_tf.methods.moco_v3 import MoCoV3
from csml_tf.methods.simclr import SimCLR
from csml_tf.methods.swav import SwAV
from csml_tf.models.backbones.applications import make_application
from csml_tf.models.backbones.catalog import make_backbone
from csml_tf.models.backbones.resnet import make_resnet
from csml_tf.models.encoder import MultiLevelEncoder
from csml_tf.models.heads import make_batch_norm_head
from csml_tf.training import addons, assembly, optim, precision, step_images
from csml_tf.training import pretrain as pretraining
from csml_tf.training.neighbor_refresh import NeighborRefresh
from csml_tf.training.share_of_epochs import share_of_epochs

_CONFIGURABLES = (
    BYOL,
    CenterView,
    CrossSamples,
    CsMl,
    KnnEvaluation,
    KnnMonitor,
    LinearEvaluation,
    LinearMonitor,
    MoCo,
    MoCoV3,
    MultiLevelEncoder,
    NeighborRefresh,
    SimCLR,
    SwAV,
    ViewAugmentation,
    make_application,
    make_backbone,
    make_batch_norm_head,
    make_resnet,
    addons.Lamb,
    addons.Lookahead,
    addons.StochasticAverage,
    optim.Lars,
    optim.TorchSGD,
    optim.cosine_schedule,
    optim.step_schedule,
    optim.warmup_cosine_schedule,
    share_of_epochs,
)
for _configurable in _CONFIGURABLES:
    # `register` leaves the class as it is; only references in a recipe are configured.
    gin.register(_configurable)
_MAX_DEPTH = 20  # Of knobs that are set to knobs.
_make_parts = gin.external_configurable(assembly.Parts, name="pretrain")
_BY_NAME = {"pretrain": assembly.Parts, **{c.__name__: c for c in _CONFIGURABLES}}
gin.config.register_file_reader(recipe_files.open_found, recipe_files.is_found)


def parse(
    gin_files: Sequence[Union[str, os.PathLike]], bindings: Sequence[str] = ()
) -> runs.Recipe:
    """Reads recipes and overrides into gin, in place of what was read before.

    Args:
        gin_files: names of recipes, as for `recipe_files.find`. A module that one of them
            imports is looked up in the current folder, too.
        bindings: overrides such as "EPOCHS = 10".

    Returns:
        `runs.Recipe`, which is good until the next call.

    Raises:
        InputError: if a file is missing or a name in it does not exist; names the
            nearest one that does; or if a value is not as `knob_rules` says.
    """
    gin_files = [os.fspath(name) for name in gin_files]
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # Last, so that nobody's file hides a library.
    gin.clear_config()
    try:
        with recipe_files.without_search_log():
            for name in gin_files:
                gin.parse_config_file(recipe_files.find(name))
            for binding in bindings:
                _check_knobs(binding)
                gin.parse_config(recipe_files.place_includes(binding))
        gin.finalize()
    except InputError as error:
        raise _recipe_fault(error) from error
    except ModuleNotFoundError as error:
        # gin raises it anew, and only the text stays.
        missing = re.search(r"No module named '(.+?)'", str(error))
        raise InputError(
            f"The recipe imports {missing[1] if missing else error.name}, which is neither "
            "installed nor in the current folder: go to the folder that holds it."
        ) from error
    except (ValueError, SyntaxError, tokenize.TokenError) as error:
        raise InputError(_explain(str(error))) from error
    _check_parameters()
    return _make_recipe(tuple(gin_files), tuple(bindings))


def _make_recipe(gin_files, bindings):
    """`runs.Recipe` of what gin holds now."""
    values = _values()
    knob_rules.check(values)
    return runs.Recipe(
        files=gin_files,
        bindings=bindings,
        name=pathlib.Path(gin_files[-1]).stem,
        dataset=values.get("DATASET"),
        knobs={name: values[name] for name in _knobs() if name in values},
        read_settings=lambda: _settings_in_effect(bindings),
        settings=gin.operative_config_str,
        make_model=_in_a_sentence(_make_model),
        fill=functools.partial(_fill, gin_files, bindings),
        assemble=_in_a_sentence(_assemble),
        make_center_view=_in_a_sentence(gin.get_configurable("CenterView")),
        make_monitors=_in_a_sentence(_make_monitors),
        train=_in_a_sentence(_train),
        collect_step=_in_a_sentence(_collect_step),
    )


def _in_a_sentence(function):
    """The function, whose errors that a recipe's value has caused are an `InputError`."""

    @functools.wraps(function)
    def call(*args, **kwargs):
        try:
            return function(*args, **kwargs)
        except (ValueError, TypeError) as error:
            raise _recipe_fault(error) from error

    return call


def _fill(gin_files, bindings, values):
    """The recipe with other values of some of its knobs, {name: value}."""
    with gin.unlock_config():
        gin.parse_config([f"{name} = {value!r}" for name, value in values.items()])
    return _make_recipe(gin_files, bindings)


def _make_model():
    """The recipe's model, to be given the weights of a checkpoint."""
    parts = _make_parts()
    with precision.policy(parts.precision):
        return parts.make_model(seed=parts.seed, photometric=None)


def _assemble(source, strategy, center_view):
    """`assembly.assemble` of the recipe's parts."""
    return assembly.assemble(_make_parts(), source, strategy, center_view)


def _make_monitors(train, test, center_view):
    """The monitors of accuracy, as `training.pretrain.run` takes them."""
    find, pair = gin.get_configurable, (train, test, center_view)
    knn = find("KnnMonitor")(find("KnnEvaluation")(*pair))
    return [knn, knn.baselines(), find("LinearMonitor")(find("LinearEvaluation")(*pair))]


def _train(
    directory,
    source,
    strategy,
    center_view,
    settings,
    monitors,
    initialize,
    callbacks,
    open_teacher,
):
    """`training.pretrain.run` with the recipe's parts, and what opens the model that mines."""
    parts = _make_parts(callbacks=callbacks) if callbacks else _make_parts()
    if open_teacher is not None:
        refresh = functools.partial(parts.make_neighbor_refresh, open_teacher=open_teacher)
        parts = dataclasses.replace(parts, make_neighbor_refresh=refresh)
    return pretraining.run(
        directory, source, strategy, parts, center_view, settings, monitors, initialize
    )


def _collect_step(source, center_view, checkpoints, step):
    """`step_images.collect` with the recipe's parts."""
    return step_images.collect(source, center_view, _make_parts(), checkpoints, step)


def _settings_in_effect(bindings):
    """{knob: value} of the knobs in use, and {"Class.parameter": value} of what overrides them."""
    in_use = [n for n in _names(gin.operative_config_str()) if "." not in n and "/" not in n]
    overrides = [n for n in _names("\n".join(bindings)) if "." in n]
    values = _values()
    shown = dict.fromkeys(["DATASET", *in_use, *overrides])
    return {name: values.get(name, str(_bound(name))) for name in shown if name in _names()}


def _values():
    """{knob, or "Class.parameter": plain value} of the recipe; what a function returns left out."""
    values = {}
    for name in _names():
        scope, _, selector = name.rpartition("/")
        short = ".".join(selector.split(".")[-2:])
        value = _resolve(name, _bound(name))
        if value is not _UNKNOWN:
            values[f"{scope}/{short}" if scope else short] = value
    return values


def _names(text=None):
    """What is set in a text, or in the whole recipe: knobs, and parameters with their classes."""
    text = gin.config_str() if text is None else text
    return re.findall(r"^[ \t]*((?:[\w/]+/)?[\w.]+) *=(?!=)", text, re.MULTILINE)


def _bound(name):
    return gin.query_parameter(name if "." in name else f"%{name}")


_UNKNOWN = object()


def _resolve(name, value, depth=0):
    """A plain value for one that is, or holds, knobs; `_UNKNOWN` where a function decides."""
    if depth > _MAX_DEPTH:
        raise InputError(f"{name} refers to itself: give it a value.")
    resolve = functools.partial(_resolve, name, depth=depth + 1)
    if isinstance(value, gin.config.ConfigurableReference):
        reference = str(value)
        return resolve(gin.query_parameter(reference)) if reference[0] == "%" else _UNKNOWN
    if isinstance(value, dict):
        parts = {key: resolve(part) for key, part in value.items()}
        return _UNKNOWN if _UNKNOWN in parts.values() else parts
    if isinstance(value, (list, tuple)):
        listed = [resolve(part) for part in value]
        return _UNKNOWN if any(part is _UNKNOWN for part in listed) else type(value)(listed)
    return value


def _knobs():
    return [name for name in _names() if "." not in name and "/" not in name]


def _check_knobs(binding):
    """A knob that no recipe reads would be an override without effect."""
    for name in re.findall(r"^\s*(\w+)\s*=", binding, re.MULTILINE):
        if name not in _knobs():
            raise InputError(_unknown_knob(name))


def _unknown_knob(name):
    knobs = _knobs()
    hint = errors.did_you_mean(name, knobs)
    return f"The recipe has no knob {name!r}{hint}: its knobs are {', '.join(knobs)}."


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
        return f"{first_line}{errors.did_you_mean(unknown[1], _BY_NAME)}: mend the name."
    unknown = re.match(
        r"Configurable '([\w.]+)' doesn't have a parameter named '(\w+)'", first_line
    )
    if unknown:
        configurable = _BY_NAME.get(unknown[1].split(".")[-1])
        parameters = _parameters(configurable) if configurable else ()
        hint = errors.did_you_mean(unknown[2], parameters)
        owners = [name for name, each in _BY_NAME.items() if unknown[2] in _parameters(each)]
        if owners and not hint:  # It exists, in another place.
            hint = f" (did you mean {' or '.join(f'{owner}.{unknown[2]}' for owner in owners)}?)"
        return f"{first_line}{hint}: mend the name."
    unknown = re.match(r"No bindings specified for '(\w+)/gin.macro'", first_line)
    if unknown:
        return _unknown_knob(unknown[1])
    word = re.search(r"Failed to parse token '(.+?)'(.*)", message)
    if word:
        place = f"The recipe cannot be read (there is no value {word[1]!r}{word[2]})"
        if word[1].lower() in _WORDS:
            return f"{place}: write {_WORDS[word[1].lower()]}."
        return f'{place}: write a text in quotes, "{word[1]}".'
    if message.startswith("Expected newline"):
        return (
            f"The recipe cannot be read ({' '.join(message.split())}): give every setting a line, "
            "or a --gin_bindings, of its own, and put several values into brackets."
        )
    return f"The recipe cannot be read ({' '.join(message.split())}): mend that line."


# What other languages write.
_WORDS = {
    **{"true": "True", "false": "False", "null": "None", "none": "None"},
    **{word: "a finite number" for word in ("nan", "inf", "-inf", "+inf", "-nan")},
}


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
