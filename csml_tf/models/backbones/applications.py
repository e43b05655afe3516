"""Backbones out of `tf.keras.applications`, by name, with or without their ImageNet weights."""

import os
import pathlib
import re
import sys
from typing import Optional

import numpy as np
import tensorflow as tf

from csml_tf.errors import InputError, first_line
from csml_tf.models import layer_copies
from csml_tf.models.backbones.contract import STAGES
from csml_tf.models.backbones.grouping import LayerGrouping

NAMES = tuple(name for name in dir(tf.keras.applications) if name[0].isupper())
STRIDES = (4, 8, 16, 32)
# The size that they were made for; all strides divide it.
_SIZE = 224
# Layers whose output waits for an activation, or for nothing at all.
_LINEAR = (
    tf.keras.layers.BatchNormalization,
    tf.keras.layers.LayerNormalization,
    tf.keras.layers.Conv2D,
    tf.keras.layers.DepthwiseConv2D,
    tf.keras.layers.SeparableConv2D,
    tf.keras.layers.Dense,
)
_POINTWISE = (
    tf.keras.layers.Activation,
    tf.keras.layers.BatchNormalization,
    tf.keras.layers.LayerNormalization,
    tf.keras.layers.ReLU,
)


def make_application(
    name: str,
    weights: Optional[str] = None,
    bn_groups: int = 1,
    mean: tuple = (0.485, 0.456, 0.406),
    std: tuple = (0.229, 0.224, 0.225),
) -> tf.keras.Model:
    """A network of `tf.keras.applications` without its classifier, as a backbone.

    Stage1 to stage4 are the last maps at strides 4, 8, 16 and 32, after their activation where
    they have one. The network sees what it was made to see: the images' own normalisation is
    undone, and its own preprocessing follows. Batch norm is grouped, with its settings kept;
    dropout and stochastic depth are left out, see `grouping.group_batch_norm`.

    Args:
        name: one of `NAMES`, such as "MobileNetV3Small".
        weights: None draws them; "imagenet" takes those that Keras keeps in ~/.keras/models, and
            downloads nothing; else a file of them, without the classifier's.
        bn_groups: as for `SplitBatchNormalization`.
        mean: of each channel, of values in [0, 1], that the images are normalised with.
        std: of each channel.

    Returns:
        A `tf.keras.Model`: [batch, height, width, 3] float, normalised images of any size from
        32 px up, -> {"stage1": .., "stage4": [batch, h, w, channels]}.

    Raises:
        InputError: if there is no such network, it has no maps of one of the strides, or the
            weights are not there or are those of another network.
    """
    if name not in NAMES:
        raise InputError(f"tf.keras.applications has no {name!r}: it has {', '.join(NAMES)}.")
    make = getattr(tf.keras.applications, name)
    if weights == "imagenet":
        weights = _find_weights(name)
    network = make(include_top=False, weights=None, input_shape=(_SIZE, _SIZE, 3))
    if weights is not None:
        _load_weights(network, name, weights)
    stages = _find_stages(network)
    if len(stages) < len(STAGES):
        missing = [stride for stage, stride in zip(STAGES, STRIDES) if stage not in stages]
        raise InputError(
            f"{name} has no maps of stride {', '.join(map(str, missing))}: choose another "
            "network, such as MobileNetV3Small."
        )
    images = tf.keras.Input([None, None, 3], name="images")
    preprocess_input = sys.modules[make.__module__].preprocess_input
    preprocessed = _preprocess(images, preprocess_input, np.array(mean), np.array(std))
    copies = {id(network.input): preprocessed}
    maps = layer_copies.rebuild(stages, copies, LayerGrouping(bn_groups, _replace))
    return tf.keras.Model(images, maps, name=name)


def _preprocess(images, preprocess_input, mean, std):
    """Normalised images as the network expects them.

    Keras' functions are all of one form: channels in this or the opposite order, each times a
    number plus a number. So black and three colours tell all.
    """
    black = preprocess_input(np.zeros([1, 3], "float32"))[0]
    colors = preprocess_input(255.0 * np.eye(3, dtype="float32")) - black
    is_bgr = abs(colors[0, 0]) < abs(colors[0, 2])
    if is_bgr:
        black, colors = black[::-1], colors[:, ::-1]
    per_unit = np.diag(colors)  # Of a channel in [0, 1].
    scale, offset = per_unit * std, per_unit * mean + black
    pixels = tf.keras.layers.Rescaling(scale.tolist(), offset.tolist(), name="preprocess")(images)
    return pixels[..., ::-1] if is_bgr else pixels


def _find_stages(network):
    """{stage: its map}, of a network that is built for images of 224 px.

    A map stands for the network at its depth if all paths from the images to the end lead
    through it, or if it is made of such a one channel by channel, as the activation
    before a convolution is.
    """
    # Of the last call: a model inside was called before, on an input of its own.
    order = [layer.inbound_nodes[-1].outputs for layer in network.layers]
    place = {id(tensor): number for number, tensor in enumerate(order)}
    reach = 0  # The last place that anything so far leads to.
    leads_to = [*range(len(order))]
    for tensor in order:
        for source in tensor.node.keras_inputs:
            source_place = place[id(source)]
            leads_to[source_place] = max(leads_to[source_place], place[id(tensor)])
    whole, stages = set(), {}
    for number, tensor in enumerate(order):
        sources = tensor.node.keras_inputs
        layer = tensor.node.layer
        is_pointwise = isinstance(layer, _POINTWISE) and {id(s) for s in sources} <= whole
        if reach <= number or is_pointwise:
            whole.add(id(tensor))
            stage = _stage_of(tensor)
            if stage is not None and not _is_linear(layer):
                stages[stage] = tensor
        reach = max(reach, leads_to[number])
    if _stage_of(network.output) == STAGES[-1]:
        stages[STAGES[-1]] = network.output
    return {stage: stages[stage] for stage in STAGES if stage in stages}


def _stage_of(tensor):
    if tensor.shape.rank != 4:
        return None
    stride = round(_SIZE / tensor.shape[1])
    return STAGES[STRIDES.index(stride)] if stride in STRIDES else None


def _is_linear(layer):
    if isinstance(layer, tf.keras.layers.ZeroPadding2D):
        return True
    activation = getattr(layer, "activation", tf.keras.activations.linear)
    return isinstance(layer, _LINEAR) and activation is tf.keras.activations.linear


def _replace(layer, config):
    """ConvNeXt's layer scale in a stock layer, which others can load."""
    if type(layer).__name__ != "LayerScale":
        return None
    return tf.keras.layers.DepthwiseConv2D(
        1,
        use_bias=False,
        depthwise_initializer=tf.keras.initializers.Constant(config["init_values"]),
        name=config["name"],
    )


def _load_weights(network, name, path):
    try:
        network.load_weights(path)
    except (OSError, ValueError, KeyError, IndexError, tf.errors.OpError) as error:
        raise InputError(
            f"{path} holds no weights of {name} without its classifier ({first_line(error)}): "
            "give another file, or weights = None."
        ) from error


def _find_weights(name):
    """The file of its ImageNet weights in Keras' own folder, which names it after the network."""
    folder = pathlib.Path(os.path.expanduser("~"), ".keras", "models")
    plain = name.lower()
    for path in sorted(folder.glob("*.h5")):
        found = re.sub(r"^weights_|[^a-z0-9]", "", path.stem.lower())
        if re.match(rf"{plain}(?!v\d).*notop", found):
            return str(path)
    raise InputError(
        f"The ImageNet weights of {name} are not in {folder}, and nothing is downloaded: where "
        f"there is a network, run tf.keras.applications.{name}(include_top=False) once, or set "
        "make_application.weights to a file of them."
    )
