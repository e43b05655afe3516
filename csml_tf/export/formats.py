"""An encoder in another format or precision, with a card that says how near it is."""

import json
import pathlib
import shutil

import numpy as np
import tensorflow as tf

from csml_tf import choices, places, whole_files
from csml_tf.augment.center_view import CenterView
from csml_tf.data import catalog
from csml_tf.errors import InputError
from csml_tf.export import half_precision, keras_file, model_card, parity, saved_model, tflite

PRECISIONS = choices.EXPORTS
FORMATS = tuple(PRECISIONS)
_NUM_SAMPLES = 200
_NUM_COMPARED = 64
_BATCH = 16
_DEFAULT_IMAGE_SIZE = 224


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
        format_: one of `FORMATS`.
        precision: one of `PRECISIONS[format_]`.
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
    _check_precision(format_, precision, dataset)
    directory, output = pathlib.Path(directory), pathlib.Path(output)
    _check_output(directory, output)
    card = model_card.read(directory)
    if card.get("precision", "float32") != "float32":
        raise InputError(
            f"{directory} holds rounded weights ({card['precision']}): export from the float32 "
            "model that it was made of."
        )
    view = _make_view(card, image_size)
    metrics = [*card.get("metrics", [])]
    for path in results:
        metrics += _read_results(path, card)
    model = saved_model.load(directory)
    images, description = _open_images(dataset, data_dir, view)

    with whole_files.new_folder(output, "choose another") as folder:
        found = _write(model, folder, directory, format_, precision, view, images)
        expected = _predict(model, images["compared"])
        card.update(
            format=format_,
            precision=precision,
            metrics=metrics,
            parity=parity.compare(expected, found, description),
        )
        card.setdefault("id", output.name)
        card.setdefault("feature_dim", int(model.output.shape[-1]))
        if format_ == "tflite":
            card.update(image_size=view.image_size, resize_size=view.resize_size)
        if licence is not None:
            card["licence"] = licence
        model_card.write(folder, card)
    card = model_card.read(output)
    return (
        f"{output}: {card['id']} as {format_} in {precision}, {card['bytes'] / 1e6:.1f} MB; "
        f"{card['parity']['text']}"
    )


def _write(model, folder, directory, format_, precision, view, images):
    """Writes the model, and returns what the written one makes of the images to compare."""
    compared = images["compared"]
    if format_ == "tflite":
        content = tflite.convert(model, view.image_size, precision, images["samples"])
        (folder / "encoder.tflite").write_bytes(content)
        return tflite.run(content, compared)
    if format_ == "keras":
        path = folder / "encoder.keras"
        keras_file.save(model, path, precision)
    else:
        path = folder
        saved_model.save(half_precision.halve(model) if precision == "float16" else model, path)
        if precision == "float32":  # With what training goes on from.
            extra = model_card.EXTRA_ASSETS
            shutil.copytree(directory / extra, folder / extra, dirs_exist_ok=True)
    return _predict(tf.keras.models.load_model(path, compile=False), compared)


def _predict(model, images):
    blocks = (images[start : start + _BATCH] for start in range(0, len(images), _BATCH))
    return np.concatenate([model(block, training=False) for block in blocks])


def _make_view(card, image_size):
    if image_size is not None and image_size < 32:
        raise InputError(f"The image size must be at least 32 px, got {image_size}.")
    size = image_size or card.get("image_size", _DEFAULT_IMAGE_SIZE)
    resize_size = None if image_size else card.get("resize_size")
    return CenterView(size, resize_size, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def _open_images(dataset, data_dir, view):
    """({"samples": training images or None, "compared": images}, what the latter are)."""
    size = view.image_size
    if dataset is None:
        random = np.random.default_rng(0).uniform(size=[_NUM_COMPARED, size, size, 3])
        what = f"{_NUM_COMPARED} images of random pixels, {size} px"
        return {"samples": None, "compared": random.astype(np.float32)}, what
    opened = catalog.open_dataset(dataset, data_dir)
    train, test = opened.split("train"), opened.split("test")
    samples, compared = _draw(train, _NUM_SAMPLES, view), _draw(test, _NUM_COMPARED, view)
    return (
        {"samples": samples, "compared": compared},
        f"{len(compared)} images of {test.name}, {size} px",
    )


def _draw(source, count, view):
    """At most `count` images of a source, drawn with seed 0: [count, size, size, 3]."""
    rng = np.random.default_rng(0)
    indices = np.sort(rng.choice(len(source), min(count, len(source)), replace=False))
    return np.stack([view(source.read(tf.constant(index, tf.int64))) for index in indices])


def _check_precision(format_, precision, dataset):
    known = PRECISIONS[format_]
    if precision not in known:
        raise InputError(
            f"--precision={precision} does not fit --format={format_}: choose one of "
            f"{', '.join(known)}."
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
        results = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
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
