"""TensorFlow Lite: one file for phones and small machines."""

import numpy as np
import tensorflow as tf

from csml_tf.quiet import quiet, without_notes

_SIGNATURE = "serving_default"


def convert(model, image_size, precision, samples=None):
    """An encoder as a TFLite model with one signature: images -> features.

    Images and features are float32 whatever the precision, so that one program serves all
    three. Batch and size are fixed, which the runtime's fast kernels want.

    Args:
        model: as `saved_model.load` returns it.
        image_size: height and width, pixels.
        precision: "float32"; "float16": weights stored in half precision; "int8": weights
            and all that is computed between the first and the last layer.
        samples: [num_images, image_size, image_size, 3] float32 in [0, 1] whose
            activations set the scales of int8; used by nothing else.

    Returns:
        bytes of the file.
    """
    spec = tf.TensorSpec([1, image_size, image_size, 3], tf.float32, name="images")

    @tf.function(autograph=False, input_signature=[spec])
    def serving_default(images):
        return {"features": model(images, training=False)}

    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [serving_default.get_concrete_function()], model
    )
    if precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if precision == "int8":
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.representative_dataset = lambda: ([image[None]] for image in samples)
    with quiet(), without_notes("tensorflow"):
        return converter.convert()


def run(content, images):
    """The features that a TFLite model makes of images, one by one: [num_images, dim].

    Args:
        content: bytes of the model.
        images: [num_images, height, width, 3] float32 in [0, 1].
    """
    # Later TensorFlows announce that the interpreter moves to a package of its own.
    with without_notes("tensorflow"):
        runner = tf.lite.Interpreter(model_content=content).get_signature_runner(_SIGNATURE)
        return np.concatenate([runner(images=image[None])["features"] for image in images])
