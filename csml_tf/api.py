"""The verbs as functions, for notebooks and scripts; `csml_tf` has them under its own name."""

import ast
import contextlib
import os
import pathlib
import tempfile
from collections.abc import Sequence
from typing import Any, NamedTuple, Optional, Union

import numpy as np
import tensorflow as tf

from csml_tf import command, errors, features, places, progress, runs, setting_rules
from csml_tf.data.sources import python_images
from csml_tf.data.sources.base import ImageSource
from csml_tf.errors import InputError
from csml_tf.evaluation import bfloat16, comparison, protocols
from csml_tf.evaluation.frozen_encoder import LAYERS, FrozenEncoder
from csml_tf.evaluation.protocol_card import ProtocolCard
from csml_tf.extraction import extract as extraction
from csml_tf.extraction import files
from csml_tf.training import strategies
from csml_tf.zoo import registry

Images = Union[str, os.PathLike, np.ndarray, Sequence, ImageSource]
Model = Union[str, os.PathLike]
# Settings of protocols that are lists of what to try; one value does as well.
_LISTS = ("layer", "k", "temperature", "learning_rate", "l2")


class Features(NamedTuple):
    """What `extract` returns.

    Attributes:
        paths: [n] str, the files' paths below the folder; None where arrays were given.
        features: [n, dim] float32; row i belongs to image i.
    """

    paths: Optional[np.ndarray]
    features: np.ndarray


def pretrain(
    images: Optional[Images],
    recipe: Union[str, os.PathLike],
    model_dir: Union[str, os.PathLike, None] = None,
    *,
    callbacks: Sequence[tf.keras.callbacks.Callback] = (),
    strategy: Union[str, tf.distribute.Strategy, None] = None,
    init_from: Optional[Model] = None,
    data_dir: Optional[str] = None,
    download: bool = False,
    trust_model: bool = False,
    **knobs: Any,
) -> tf.keras.Model:
    """Pretrains an encoder without labels; the same call again goes on with the run.

    Args:
        images: a data set string ("cifar10", "folder:photos", "digits"), the path of a folder
            as a `pathlib.Path`, a [n, height, width, 3] uint8 array, or a list of arrays or
            of paths of files. None takes the recipe's DATASET.
        recipe: name of a recipe, with ".gin" or without, looked up in the current folder and
            then among those of the package.
        model_dir: the run directory; None takes `runs/<recipe>`.
        callbacks: Keras callbacks of the training.
        strategy: `tf.distribute.Strategy`, or a name for `training.strategies.make`; None
            takes all GPUs of this machine.
        init_from: model whose weights a new run begins with: a run directory, a SavedModel
            folder or an id of `list_models`.
        data_dir: where TFDS finds its data sets.
        download: whether TFDS may download the data set.
        trust_model: whether `init_from` and MINE_WITH may be any program, see
            docs/using_encoders.md.
        **knobs: of the recipe, in capitals or not: `epochs=5` sets EPOCHS = 5.

    Returns:
        The encoder, as `load_model(model_dir)` opens it.

    Raises:
        InputError: if recipe, knobs, images and run directory do not fit each other.
        training.stop_signals.Stopped: if SIGTERM or SIGINT has come; the state is saved.
    """
    from csml_tf import recipes  # Here, since it needs gin.

    with _at_work():
        name = os.fspath(recipe)
        name = name if name.endswith(".gin") else f"{name}.gin"
        bindings = [_bind(knob, value) for knob, value in knobs.items()]
        parsed = recipes.parse([name], bindings)
        if strategy is None or isinstance(strategy, str):
            strategy = strategies.make(strategy or "auto")
        directory = runs.pretrain(
            parsed,
            _expand(model_dir, "model_dir"),
            strategy,
            _choose_dataset(images),
            _expand(data_dir, "data_dir"),
            download,
            _expand(init_from, "init_from"),
            callbacks,
            trust_model,
        )
    return registry.load_model(directory.path, trust_model=True)  # It is our own.


def evaluate(
    model: Model,
    dataset: str,
    protocol: str = "knn",
    *,
    image_size: Optional[int] = None,
    data_dir: Optional[str] = None,
    download: bool = False,
    json_path: Optional[str] = None,
    trust_model: bool = False,
    **settings: Any,
) -> ProtocolCard:
    """Measures how good an encoder is.

    Args:
        model: run directory, SavedModel folder or an id of `list_models`.
        dataset: data set string, or the path of a folder as a `pathlib.Path`; needs labels.
        protocol: one of "knn", "linear", "linear_cached", "semi_supervised", "retrieval".
        image_size: pixels; None takes the size that the model was trained with.
        data_dir: where TFDS finds its data sets.
        download: whether TFDS may download the data set.
        json_path: file for the card, and for the same as text beside it.
        trust_model: whether the model may be any program, see docs/using_encoders.md.
        **settings: of the protocol, as the flags of `csml-tf evaluate`: `k=[5, 20]` or `k=20`.

    Returns:
        `ProtocolCard`: `result` has the numbers, accuracies in [0, 1], `settings` the whole
        protocol, and `headline()` says both in a line.

    Raises:
        InputError: if there is no such model, protocol or setting, or the data does not fit.
    """
    if protocol not in protocols.NAMES:
        raise InputError(
            f"There is no protocol {protocol!r}{errors.did_you_mean(protocol, protocols.NAMES)}: "
            f"choose one of {', '.join(protocols.NAMES)}."
        )
    with _at_work():
        cards = comparison.measure(
            [_find(model, trust_model)],
            [_name_folder(dataset)],
            [protocol],
            image_size,
            _expand(data_dir, "data_dir"),
            download,
            _expand(json_path, "json_path"),
            show=lambda text: None,
            **{name: _as_list(name, value) for name, value in settings.items()},
        )
    (card,) = cards.values()
    return card


def extract(
    model: Model,
    images: Images,
    output: Union[str, os.PathLike, None] = None,
    *,
    layer: str = "features",
    image_size: Optional[int] = None,
    batch_size: int = 64,
    trust_model: bool = False,
    precision: str = "float32",
) -> Features:
    """The features of images.

    Args:
        model: run directory, SavedModel folder or an id of `list_models`.
        images: folder of images, a [n, height, width, 3] uint8 array, or a list of arrays or
            of paths of files. Broken files of a folder are left out, and the log names them.
        output: of a folder's features only: "NAME.npz" or "NAME.parquet", to which they are
            written as well; the same call again goes on after it was interrupted.
        layer: "features", "embedding", or "stage1" to "stage4", which are average-pooled.
        image_size: pixels; None takes the size that the model was trained with.
        batch_size: images per call of the encoder.
        trust_model: whether the model may be any program, see docs/using_encoders.md.
        precision: "float32", or "bfloat16" on CPUs with instructions for it; the log says what
            that changes.

    Returns:
        `Features`: (paths, features).

    Raises:
        InputError: if there is no such model or layer, no image, or the output cannot be
            written.
    """
    if layer not in LAYERS:
        raise InputError(
            f"There is no layer {layer!r}{errors.did_you_mean(layer, LAYERS)}: choose one of "
            f"{', '.join(LAYERS)}."
        )
    setting_rules.check({"image_size": image_size, "batch_size": batch_size})
    encoder = FrozenEncoder(_find(model, trust_model), image_size)
    with _at_work():
        if isinstance(images, (str, os.PathLike)):
            settings = {"layer": layer, "batch_size": batch_size, "precision": precision}
            return _extract_folder(encoder, os.fspath(images), output, settings)
        if output is not None:
            raise InputError(
                "Only the features of a folder are written to a file: leave output out, and "
                "save what is returned."
            )
        source = python_images.make_source(images)
        found = features.extract_features(
            bfloat16.choose(encoder.encode(layer), precision),
            *(source, encoder.center_view, batch_size),
        )
    return Features(None if source.paths is None else np.array(source.paths), found)


@contextlib.contextmanager
def _at_work():
    """Shows the log, and raises what is no fault of ours as `InputError`, as the commands do."""
    with progress.shown_log():
        try:
            yield
        except InputError:
            raise
        except (OSError, tf.errors.OpError) as error:
            _, sentence = command.explain(error)
            if sentence is None:
                raise
            raise InputError(sentence) from error


def _extract_folder(encoder, folder, output, settings):
    with tempfile.TemporaryDirectory() as temporary:
        path = places.at(_expand(output, "output") or pathlib.Path(temporary, "features.npz"))
        formats = {file_format.suffix: file_format for file_format in files.FORMATS.values()}
        if path.suffix not in formats:
            raise InputError(
                f"{path} is no file for features: name it with {' or '.join(sorted(formats))}."
            )
        extraction.run(encoder, folder, path, **settings)
        rows = formats[path.suffix]().read(path)
    return Features(rows.paths, rows.features)


def _choose_dataset(images):
    """Images as `runs.pretrain` takes them: a data set string, a source, or None."""
    if images is None or isinstance(images, (str, os.PathLike)):
        return _name_folder(images)
    return python_images.make_source(images)


def _name_folder(dataset):
    return f"folder:{os.fspath(dataset)}" if isinstance(dataset, os.PathLike) else dataset


def _expand(path, name):
    return None if path is None else places.expand(path, name)


def _find(model, trust_model):
    if not isinstance(model, (str, os.PathLike)):
        raise InputError(
            "A model is given as a run directory, the folder of a SavedModel or an id of "
            f"list_models(), got a {type(model).__name__}: give what it was opened from."
        )
    from csml_tf import unfinished  # Here, since it needs gin.

    return unfinished.find_model(model, trust_model)


def _as_list(name, value):
    return [value] if name in _LISTS and isinstance(value, (str, int, float)) else value


def _bind(knob, value):
    """A knob as a line of a recipe."""
    if isinstance(value, np.generic):
        value = value.item()
    try:
        ast.literal_eval(repr(value))
    except (ValueError, SyntaxError) as error:
        raise InputError(
            f"The knob {knob} is a number, a text or a tuple of these, got a "
            f"{type(value).__name__}: give a plain value."
        ) from error
    return f"{knob.upper()} = {value!r}"
