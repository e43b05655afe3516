"""ONNX: one file for ONNX Runtime and whatever else reads the format, made by tf2onnx."""

import warnings

import tensorflow as tf

from csml_tf.errors import InputError
from csml_tf.export import saved_model
from csml_tf.quiet import without_notes

OPSET = 15
_BATCH_SHAPE = [None, None, None, 3]


def convert(model):
    """An encoder as one ONNX graph, with all that the signatures of a SavedModel return.

    Its input is `images`, [batch, height, width, 3] float32 RGB in [0, 1], of any batch and size.
    Its outputs are `features`, `stage1` .. `stage4` where there are such maps, channels last,
    and `embedding` where there is a head.

    Args:
        model: as `saved_model.load` returns it.

    Returns:
        Bytes of the file, and the names of its outputs.

    Raises:
        InputError: if tf2onnx is not installed, or cannot convert the model.
    """
    tf2onnx, _ = _import_libraries()
    endpoints = saved_model.make_endpoints_model(model)
    head = getattr(model, "projection_head", None)
    spec = tf.TensorSpec(_BATCH_SHAPE, tf.float32, name="images")

    @tf.function(autograph=False, input_signature=[spec])
    def outputs(images):
        found = endpoints(images, training=False)
        embedding = {} if head is None else {"embedding": head(found["features"])}
        return {**found, **embedding}

    with without_notes("tf2onnx", "tensorflow"):
        try:
            proto, _ = tf2onnx.convert.from_function(outputs, [spec], opset=OPSET)
        except (ValueError, RuntimeError, TypeError, KeyError) as error:
            raise InputError(
                f"tf2onnx cannot convert this network ({error}): choose another --format."
            ) from error
    return proto.SerializeToString(), [output.name for output in proto.graph.output]


def open_model(content):
    """A function from [batch, height, width, 3] float32 in [0, 1] to the features [batch, dim].

    Args:
        content: bytes of the model, which ONNX Runtime opens.
    """
    _, onnxruntime = _import_libraries()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return lambda images: session.run(["features"], {"images": images})[0]


def _import_libraries():
    """(tf2onnx, onnxruntime)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import onnxruntime
            import tf2onnx.convert
    except (ImportError, AttributeError) as error:
        # An onnx that is too new for TensorFlow's ml_dtypes fails with an AttributeError.
        raise InputError(
            f"--format=onnx needs tf2onnx and ONNX Runtime ({error}): pip install -c "
            "constraints.txt '.[onnx]'."
        ) from error
    return tf2onnx, onnxruntime
