"""The lines of Python that open an export, and where each of them works."""

# {format: ((where it works, lines), ...)}. `images` is a NumPy array [batch, height, width, 3]
# float32 in [0, 1]; DIR is the folder, and what else stands in capitals comes from the card.
_LINES = {
    "saved_model": (
        (
            "On TensorFlow 2.15. On later ones with tf-keras, `pip install tf-keras`, and the "
            "environment variable `TF_USE_LEGACY_KERAS=1`:",
            """import tensorflow as tf

encoder = tf.keras.models.load_model("DIR", compile=False)
features = encoder(images)""",
        ),
        (
            "In Keras 3, on its TensorFlow backend; frozen, or trained by SGD:",
            """import keras

encoder = keras.layers.TFSMLayer("DIR", call_endpoint="serving_default")
features = encoder(images)["features"]""",
        ),
    ),
    "keras": (
        (
            "In Keras 2.15 and Keras 3, on any backend, and as `tf.keras.models.load_model` in "
            "TensorFlow from 2.15 on:",
            """import keras

encoder = keras.models.load_model("DIR/encoder.keras", compile=False)
features = encoder(images)""",
        ),
    ),
    "keras of Keras 2 alone": (
        (
            "On TensorFlow from 2.15 on with tf-keras, `pip install tf-keras`, and the environment "
            "variable `TF_USE_LEGACY_KERAS=1`. Keras 3 has not all of its layers:",
            """import tensorflow as tf

encoder = tf.keras.models.load_model("DIR/encoder.keras", compile=False)
features = encoder(images)""",
        ),
    ),
    "tflite": (
        (
            "On TensorFlow 2.15 and later:",
            """import tensorflow as tf

encoder = tf.lite.Interpreter("DIR/encoder.tflite").get_signature_runner()
features = encoder(images=images)["features"]""",
        ),
    ),
    "onnx": (
        (
            "In ONNX Runtime, `pip install onnxruntime`; its outputs are OUTPUTS:",
            """import onnxruntime

encoder = onnxruntime.InferenceSession("DIR/encoder.onnx")
(features,) = encoder.run(["features"], {"images": images})""",
        ),
    ),
    "hub": (
        (
            "In TensorFlow Hub, `pip install tensorflow-hub`, once `model.tar.gz` is unpacked "
            "into DIR, or lies at an address that begins with https://. On TensorFlow from 2.16 "
            "on with tf-keras and the environment variable `TF_USE_LEGACY_KERAS=1`:",
            """import tensorflow_hub as hub

encoder = hub.KerasLayer("DIR", trainable=True)
features = encoder(images)""",
        ),
        (
            "In Keras 3, on its TensorFlow backend; frozen, or trained by SGD:",
            """import keras

encoder = keras.layers.TFSMLayer("DIR", call_endpoint="serving_default")
features = encoder(images)["features"]""",
        ),
    ),
    "preset": (
        (
            "In timm, `pip install timm`:",
            """import timm
import torch

encoder = timm.create_model("local-dir:DIR", pretrained=True, num_classes=0).eval()
normalized = torch.tensor((images - MEAN) / STD, dtype=torch.float32).permute(0, 3, 1, 2)
features = encoder(normalized)""",
        ),
        (
            "In KerasHub, `pip install keras-hub`, on any backend of Keras 3:",
            """import keras
import keras_hub

encoder = keras_hub.models.ResNetBackbone.from_preset("DIR")
features = keras.ops.mean(encoder((images - MEAN) / STD), axis=(1, 2))""",
        ),
        (
            "In torchvision, with `pip install safetensors`:",
            """import torch
import torchvision
from safetensors.torch import load_file

encoder = torchvision.models.get_model("ARCH")
encoder.fc = torch.nn.Identity()
encoder.load_state_dict(load_file("DIR/model.safetensors"))
normalized = torch.tensor((images - MEAN) / STD, dtype=torch.float32).permute(0, 3, 1, 2)
features = encoder.eval()(normalized)""",
        ),
    ),
}


def describe(card):
    """How to open an export, in lines of Markdown.

    Args:
        card: as `model_card` describes it.
    """
    format_ = card.get("format", "saved_model")
    if not card.get("opens_in_keras_3", True):
        format_ += " of Keras 2 alone"
    values = {name: str(card.get(name.lower())) for name in ("MEAN", "STD", "ARCH", "OUTPUTS")}
    lines = []
    for where, code in _LINES[format_]:
        for name, value in values.items():
            where, code = where.replace(name, value), code.replace(name, value)
        lines += [where, "", "```python", code, "```", ""]
    return lines
