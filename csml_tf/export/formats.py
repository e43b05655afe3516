"""An encoder in another format or precision, with a card that says how near it is."""

import dataclasses
import json
import pathlib
import shutil
from typing import Any, Callable

import numpy as np
import tensorflow as tf

from csml_tf import places, whole_files
from csml_tf.augment.center_view import CenterView
from csml_tf.data import catalog
from csml_tf.errors import InputError
from csml_tf.export import (
    half_precision,
    hub_archive,
    keras_file,
    model_card,
    onnx_file,
    parity,
    saved_model,
    tflite,
)

_NUM_SAMPLES = 200
_NUM_COMPARED = 64
_BATCH = 16
_DEFAULT_IMAGE_SIZE = 224


@dataclasses.dataclass(frozen=True)
class Order:
    """What is to be exported, beside the model.

    Attributes:
        directory: of the SavedModel that the model was loaded from.
        precision: one of the format's.
        view: `CenterView` with the sizes of the images.
        card: of the SavedModel.
        samples: [num_images, size, size, 3] float32 in [0, 1], training images; or None.
        compared: the same of the images to compare on.
    """

    directory: pathlib.Path
    precision: str
    view: CenterView
    card: dict
    samples: Any
    compared: np.ndarray


@dataclasses.dataclass(frozen=True)
class Format:
    """A row of the table of formats.

    Attributes:
        name: of the format, for `--format`.
        write: function of the model, the folder to write into and the `Order`; returns the
            features [num_images, dim] that what it wrote makes of `Order.compared`, and entries
            for the card.
        precisions: that it has.
    """

    name: str
    write: Callable[[tf.keras.Model, pathlib.Path, Order], tuple]
    precisions: tuple = ("float32",)


def export(
    directory,
    output,
    format_="saved_model",
    precision="float32",
    dataset=None,
    data_dir=None,
    image_size=None,
    licence=None,
    results=(),
):
    """Exports an encoder anew, measures how near the export is, and writes its card.

    Args:
        directory: of a SavedModel in float32 that `saved_model.export` wrote.
        output: folder of the new export; an older export there is replaced.
        format_: a `Format`, or the name of one in `FORMATS`.
        precision: one of the format's.
        dataset: data set string. Its test images are compared; training images set the
            scales of int8, which needs them. None compares random images.
        data_dir: where TFDS finds its data sets.
        image_size: height and width, pixels; None takes the size of the card. A TFLite model
            has this size and no other.
        licence: of the weights; None keeps what the card says.
        results: JSON files of `csml-tf evaluate` for the card; of this very encoder.

    Returns:
        One line about the export.

    Raises:
        InputError: if format and precision do not fit, the SavedModel cannot be exported anew,
            the output is something else than an older export, or a result is of another model.
    """
    format_ = FORMATS.get(format_, format_)
    _check_precision(format_, precision, dataset)
    directory, output = pathlib.Path(directory), places.at(output)
    _check_output(directory, output)
    card = model_card.read(directory)
    if card.get("precision", "float32") != "float32":
        raise InputError(
            f"{directory} holds rounded weights ({card['precision']}): export from the float32 "
            "model that it was made of."
        )
    view = _make_view(card, image_size)
    card["metrics"] = [*card.get("metrics", [])]
    for path in results:
        card["metrics"] += _read_results(path, card)
    if licence is not None:
        card["licence"] = licence
    model = saved_model.load(directory)
    card.setdefault("id", output.name)
    card.setdefault("feature_dim", int(model.output.shape[-1]))
    samples, compared, description = _open_images(dataset, data_dir, view)
    order = Order(directory, precision, view, card, samples, compared)

    with whole_files.new_folder(output, "choose another") as folder:
        found, entries = format_.write(model, folder, order)
        card.update(
            format=format_.name,
            precision=precision,
            parity=parity.compare(_predict(model, compared), found, description),
            **entries,
        )
        model_card.write(folder, card)
    card = model_card.read(output)
    return (
        f"{output}: {card['id']} as {format_.name} in {precision}, {card['bytes'] / 1e6:.1f} MB; "
        f"{card['parity']['text']}"
    )


def _write_saved_model(model, folder, order):
    saved_model.save(_in_precision(model, order), folder)
    if order.precision == "float32":  # With what training goes on from.
        extra = model_card.EXTRA_ASSETS
        shutil.copytree(order.directory / extra, folder / extra, dirs_exist_ok=True)
    return _predict_by_file(folder, order), {}


def _write_hub(model, folder, order):
    with hub_archive.new(folder) as inner:
        saved_model.save(_in_precision(model, order), inner)
        own = {"format": "saved_model", "precision": order.precision}
        model_card.write(inner, {**order.card, **own})
        found = _predict_by_file(inner, order)
    return found, {}


def _write_keras(model, folder, order):
    path = folder / "encoder.keras"
    opens_in_keras_3 = keras_file.save(model, path, order.precision)
    return _predict_by_file(path, order), {"opens_in_keras_3": opens_in_keras_3}


def _write_tflite(model, folder, order):
    size = order.view.image_size
    content = tflite.convert(model, size, order.precision, order.samples)
    (folder / "encoder.tflite").write_bytes(content)
    entries = {"image_size": size, "resize_size": order.view.resize_size}
    return tflite.run(content, order.compared), entries


def _write_onnx(model, folder, order):
    content, outputs = onnx_file.convert(model)
    (folder / "encoder.onnx").write_bytes(content)
    found = in_batches(onnx_file.open_model(content), order.compared)
    return found, {"outputs": ", ".join(f"`{name}`" for name in outputs)}


FORMATS = {
    each.name: each
    for each in (
        Format("saved_model", _write_saved_model, ("float32", "float16")),
        Format("keras", _write_keras, ("float32", "float16")),
        Format("tflite", _write_tflite, ("float32", "float16", "int8")),
        Format("onnx", _write_onnx),
        Format("hub", _write_hub, ("float32", "float16")),
    )
}


def _in_precision(model, order):
    return half_precision.halve(model) if order.precision == "float16" else model


def _predict_by_file(path, order):
    return _predict(tf.keras.models.load_model(path, compile=False), order.compared)


def _predict(model, images):
    return in_batches(lambda block: model(block, training=False), images)


def in_batches(predict, images):
    """What a function makes of images, some at a time: [num_images, dim]."""
    blocks = (images[start : start + _BATCH] for start in range(0, len(images), _BATCH))
    return np.concatenate([predict(block) for block in blocks])


def _make_view(card, image_size):
    if image_size is not None and image_size < 32:
        raise InputError(f"The image size must be at least 32 px, got {image_size}.")
    size = image_size or card.get("image_size", _DEFAULT_IMAGE_SIZE)
    resize_size = None if image_size else card.get("resize_size")
    return CenterView(size, resize_size, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def _open_images(dataset, data_dir, view):
    """(training images or None, images to compare on, what the latter are)."""
    size = view.image_size
    if dataset is None:
        random = np.random.default_rng(0).uniform(size=[_NUM_COMPARED, size, size, 3])
        what = f"{_NUM_COMPARED} images of random pixels, {size} px"
        return None, random.astype(np.float32), what
    opened = catalog.open_dataset(dataset, data_dir)
    train, test = opened.split("train"), opened.split("test")
    samples, compared = _draw(train, _NUM_SAMPLES, view), _draw(test, _NUM_COMPARED, view)
    return samples, compared, f"{len(compared)} images of {test.name}, {size} px"


def _draw(source, count, view):
    """At most `count` images of a source, drawn with seed 0: [count, size, size, 3]."""
    rng = np.random.default_rng(0)
    indices = np.sort(rng.choice(len(source), min(count, len(source)), replace=False))
    return np.stack([view(source.read(tf.constant(index, tf.int64))) for index in indices])


def _check_precision(format_, precision, dataset):
    if precision not in format_.precisions:
        raise InputError(
            f"--precision={precision} does not fit --format={format_.name}: choose one of "
            f"{', '.join(format_.precisions)}."
        )
    if precision == "int8" and dataset is None:
        raise InputError("--precision=int8 takes its scales from images: name some with --dataset.")


def _check_output(directory, output):
    """Whether the folder may be replaced by an export of `directory`."""
    if places.is_inside(directory, output):
        raise InputError(f"{output} holds the model to be exported: choose another --output.")
    if places.is_inside(output, directory):
        raise InputError(f"{output} lies in the model to be exported: choose another --output.")
    is_free = not output.exists() or (output.is_dir() and not any(output.iterdir()))
    if not is_free and not (output.is_dir() and model_card.read(output)):
        raise InputError(
            f"{output} exists and is no older export, so it will not be replaced: choose another "
            "--output."
        )


def _read_results(path, card):
    """The card's "metrics" entries of a JSON file that `csml-tf evaluate` wrote."""
    try:
        results = json.loads(places.at(path).read_text(encoding="utf-8"))
        results = results if isinstance(results, list) else [results]
        metrics = {result["encoder"]["id"]: [] for result in results}
        for result in results:
            metrics[result["encoder"]["id"]].append(_make_metric(result))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} is no result with a top-1 accuracy ({error!r}): give a file that "
            "csml-tf evaluate --json wrote."
        ) from error
    for encoder in metrics:
        if encoder != card.get("id"):
            raise InputError(
                f"{path} was measured on {encoder}, and this model is {card.get('id')}: leave it "
                "out."
            )
    return [metric for each in metrics.values() for metric in each]


def _make_metric(result):
    settings = ", ".join(f"{name}={value}" for name, value in result["settings"].items())
    sets = ", ".join(f"{role}: {each['name']}" for role, each in result["data"].items())
    name = f"{result['protocol']} top-1"
    return model_card.metric(name, float(result["result"]["top1"]), f"{settings}; {sets}")
