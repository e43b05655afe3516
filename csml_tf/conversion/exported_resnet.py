"""What a loaded encoder of this package is made of, where it is a ResNet, in PyTorch's terms."""

import dataclasses

import numpy as np
import tensorflow as tf

from csml_tf.conversion import architecture, torch_weights
from csml_tf.errors import InputError
from csml_tf.models.backbones import resnet


@dataclasses.dataclass(frozen=True)
class ExportedResNet:
    """A ResNet, its weights, and what its images are normalised by.

    Attributes:
        network: its `architecture.Architecture`.
        tensors: {torchvision's name: array} of the backbone.
        mean: list, of each channel of values in [0, 1], to six places.
        std: the same.
    """

    network: architecture.Architecture
    tensors: dict[str, np.ndarray]
    mean: list
    std: list


def read(model, name, batches=0):
    """Takes a model apart.

    Args:
        model: as `saved_model.load` returns it.
        name: of it, for the error.
        batches: int for every `num_batches_tracked`.

    Raises:
        InputError: if it is no ResNet of this package.
    """
    layers = {layer.name: layer.get_weights() for layer in with_weights(model)}
    try:
        tensors = torch_weights.backbone_to_torch(layers, batches)
    except ValueError as error:
        raise InputError(f"{name} is no ResNet of this package: {error}") from error
    return ExportedResNet(architecture.recognize(tensors), tensors, *_normalization(model))


def make_backbone(tensors, network):
    """The network of a state dict, as `resnet.make_resnet` returns it, with the weights.

    Args:
        tensors: {torchvision's name: array} of the backbone.
        network: `architecture.Architecture`.

    Raises:
        InputError: if the tensors are not those of the network.
    """
    backbone = resnet.make_resnet(network.depth, network.width, network.stem)
    layers = torch_weights.backbone_to_keras(tensors, shapes_of(backbone), str(network))
    for name, weights in layers.items():
        backbone.get_layer(name).set_weights(weights)
    return backbone


def shapes_of(backbone):
    """{layer name: shapes of its `get_weights()`} of a backbone."""
    return {layer.name: [w.shape for w in layer.weights] for layer in with_weights(backbone)}


def with_weights(model):
    """The layers of a backbone that have weights; a loaded model lists its head among them."""
    layers = [layer for layer in model.layers if not isinstance(layer, tf.keras.Model)]
    return [layer for layer in layers if layer.weights]


def _normalization(model):
    """-> mean and std of each channel of values in [0, 1], to six places."""
    layer = model.get_layer("normalize")
    std = [1.0 / scale for scale in layer.scale]
    mean = [-offset * s for offset, s in zip(layer.offset, std)]
    return [round(value, 6) for value in mean], [round(value, 6) for value in std]
