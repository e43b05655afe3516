"""Protocols on exported encoders: any SavedModel with the signatures of ours."""

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
    """kNN accuracy of an exported encoder, and of what it has to beat.

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
        InputError: if the model lacks the layer, or the sources do not fit.
    """
    card = saved_model.read_card(directory)
    # The exported model normalises inside: it takes plain RGB in [0, 1].
    center_view = CenterView(
        image_size or card.get("image_size", _DEFAULT_IMAGE_SIZE),
        None if image_size else card.get("resize_size"),
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
    )
    evaluation = knn.KnnEvaluation(train_source, test_source, center_view, k, temperature)
    loaded = tf.saved_model.load(str(directory))
    result = {
        "model": str(directory),
        "protocol": str(evaluation.protocol(layer)),
        "knn_top1": evaluation.top1(_layer_function(loaded.signatures, layer)),
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


def _layer_function(signatures, layer):
    signature = {"features": "serving_default", "embedding": "embed"}.get(layer, "endpoints")
    if signature not in signatures:
        raise InputError(
            f"The model has no signature {signature!r}, which layer {layer!r} needs: it has "
            f"{sorted(signatures)}; choose another --layer."
        )
    function = signatures[signature]

    def encode(images):
        output = function(images)[layer]
        return tf.reduce_mean(output, axis=[1, 2]) if output.shape.rank == 4 else output

    return encode


def _untrained(directory):
    """The pooled features of the same network with fresh weights."""
    tf.keras.utils.set_random_seed(0)
    model = tf.keras.models.clone_model(tf.keras.models.load_model(directory, compile=False))
    return tf.function(lambda images: model(images, training=False), reduce_retracing=True)
