"""Protocols on exported encoders: any SavedModel with the signatures of ours."""

import json
import pathlib

import tensorflow as tf

from csml_tf import features
from csml_tf.augment.center_view import CenterView
from csml_tf.errors import InputError
from csml_tf.evaluation import knn
from csml_tf.export import saved_model

LAYERS = ("features", "embedding", "stage1", "stage2", "stage3", "stage4")
_DEFAULT_IMAGE_SIZE = 224


def knn_result(
    directory,
    train_source,
    test_source,
    image_size=None,
    layer="features",
    k=None,
    temperature=0.1,
    baselines=False,
):
    """Accuracy by kNN of an exported encoder, and of what it has to beat.

    Args:
        directory: folder of the SavedModel.
        train_source: labelled `ImageSource` whose images vote.
        test_source: labelled `ImageSource` to classify.
        image_size: pixels; None takes the size it was trained with, or 224.
        layer: "features", "embedding" or a stage, whose map is average-pooled.
        k: neighbours that vote; None as for `knn.KnnEvaluation`.
        temperature: of the votes' weights.
        baselines: whether to measure the same network untrained, and raw pixels.

    Returns:
        {"model": folder, "protocol": text, "knn_top1": accuracy in [0, 1]}, and with
        baselines "untrained_knn_top1" and "pixels_knn_top1".

    Raises:
        InputError: if the model cannot be read or lacks the layer, or the sources do
            not fit.
    """
    card = saved_model.read_card(directory)
    # The exported model normalises inside: it takes plain RGB in [0, 1].
    if image_size is not None and image_size < 1:
        raise InputError(f"The image size must be at least 1 px, got {image_size}.")
    center_view = CenterView(
        image_size or card.get("image_size", _DEFAULT_IMAGE_SIZE),
        None if image_size else card.get("resize_size"),
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
    )
    evaluation = knn.KnnEvaluation(train_source, test_source, center_view, k, temperature)
    encode = _layer_function(_load_signatures(directory), layer)
    result = {
        "model": str(directory),
        "protocol": str(evaluation.protocol(layer)),
        "knn_top1": evaluation.top1(encode),
    }
    if baselines:
        result["untrained_knn_top1"] = evaluation.top1(_untrained(directory))
        result["pixels_knn_top1"] = evaluation.top1(features.flatten)
    return result


def describe(result):
    """The result in one line, protocol included."""
    parts = [f"kNN top-1 {result['knn_top1']:.2%}"]
    for key, what in (("untrained_knn_top1", "untrained"), ("pixels_knn_top1", "raw pixels")):
        if key in result:
            parts.append(f"{what} {result[key]:.2%}")
    return f"{', '.join(parts)} ({result['protocol']})"


def save(result, path):
    """Writes the result as JSON.

    Raises:
        InputError: if the file cannot be written.
    """
    try:
        pathlib.Path(path).write_text(json.dumps(result, indent=2) + "\n")
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}).") from error


def _load_signatures(directory):
    try:
        return tf.saved_model.load(str(directory)).signatures
    except (OSError, ValueError, tf.errors.OpError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"The model in {directory} cannot be read ({reason}): export it again."
        ) from error


def _layer_function(signatures, layer):
    name = {"features": "serving_default", "embedding": "embed"}.get(layer, "endpoints")
    if name not in signatures or layer not in signatures[name].structured_outputs:
        raise InputError(
            f"The model has no signature {name!r} with an output {layer!r}: it has "
            f"{', '.join(sorted(signatures)) or 'none'}; choose another --layer."
        )
    function = signatures[name]

    def encode(images):
        output = function(images)[layer]
        return tf.reduce_mean(output, axis=[1, 2]) if output.shape.rank == 4 else output

    return encode


def _untrained(directory):
    """The pooled features of the same network with fresh weights."""
    tf.keras.utils.set_random_seed(0)
    model = tf.keras.models.clone_model(tf.keras.models.load_model(directory, compile=False))
    return tf.function(lambda images: model(images, training=False), reduce_retracing=True)
