"""A folder that timm, KerasHub and torchvision open: timm's config beside torchvision's tensors.

config.json         timm's: architecture, and in `pretrained_cfg` size, mean, deviation and
                    interpolation of the images; KerasHub reads it as well
model.safetensors   the backbone under torchvision's names, float32
"""

import json

import tensorflow as tf

from csml_tf.conversion import exported_resnet, safetensors_files
from csml_tf.conversion.architecture import Architecture
from csml_tf.errors import InputError
from csml_tf.export import formats
from csml_tf.models.backbones import contract

_CONFIG = "config.json"
_WEIGHTS = "model.safetensors"
_WIDTH = 64  # Of all ResNets that have a name in timm, KerasHub and torchvision.
_FOR_RESNETS = (
    "--format=keras opens in Keras 2 and 3, --format=onnx in ONNX Runtime, and csml-tf convert "
    "--to=torch writes the weights alone"
)
_FOR_ANY = "--format=saved_model opens in TensorFlow and Keras 3, and --format=onnx in ONNX Runtime"


def write(model, folder, order):
    """Writes the folder; it is a row of the table of `formats`.

    Args:
        model: as `saved_model.load` returns it.
        folder: that exists.
        order: `formats.Order`.

    Returns:
        As `formats.Format.write` does; the features are those of a network that was made of
        nothing but the folder.

    Raises:
        InputError: if timm and KerasHub have no name for the network.
    """
    exported = _read(model, order.directory)
    config = _make_config(exported, order.view)
    text = json.dumps(config, indent=2) + "\n"
    (folder / _CONFIG).write_text(text, encoding="utf-8")
    safetensors_files.write(folder / _WEIGHTS, exported.tensors)
    features = formats.in_batches(open_preset(folder), order.compared)
    return features, {
        "arch": exported.network.name,
        "mean": exported.mean,
        "std": exported.std,
        "image_size": order.view.image_size,
        "resize_size": order.view.resize_size,
    }


def open_preset(folder):
    """A function from [batch, height, width, 3] float32 in [0, 1] to the features [batch, dim].

    Args:
        folder: that `write` wrote.
    """
    config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
    images = config["pretrained_cfg"]
    depth = int(config["architecture"][len("resnet") :])
    network = Architecture(depth, _WIDTH, "imagenet")
    backbone = exported_resnet.make_backbone(safetensors_files.read(folder / _WEIGHTS), network)

    def predict(values):
        maps = backbone((values - images["mean"]) / images["std"], training=False)
        return tf.reduce_mean(maps[contract.STAGES[-1]], axis=[1, 2])

    return predict


def _read(model, directory):
    try:
        exported = exported_resnet.read(model, directory)
    except InputError as error:
        raise InputError(
            f"No preset describes the network in {directory}, since timm, KerasHub and torchvision "
            f"share standard ResNets only: {_FOR_ANY}."
        ) from error
    if exported.network != Architecture(exported.network.depth, _WIDTH, "imagenet"):
        raise InputError(
            f"No preset describes a {exported.network}, since timm's and KerasHub's ResNets have "
            f"width {_WIDTH} and the ImageNet stem: {_FOR_RESNETS}."
        )
    return exported


def _make_config(exported, view):
    num_features = int(exported.tensors["layer4.0.downsample.0.weight"].shape[0])
    size = view.image_size
    return {
        "architecture": exported.network.name,
        "num_classes": 0,
        "num_features": num_features,
        "pretrained_cfg": {
            "input_size": [3, size, size],
            "fixed_input_size": False,
            "pool_size": [-(-size // 32)] * 2,
            "interpolation": "bilinear",
            "crop_mode": "center",
            "crop_pct": size / view.resize_size,
            "mean": exported.mean,
            "std": exported.std,
            "num_classes": 0,
            "first_conv": "conv1",
            "classifier": "fc",
        },
    }


FORMAT = formats.Format("preset", write)
