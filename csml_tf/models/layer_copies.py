"""Repeats the layers of a Keras model on other tensors: for an export, or with other layers."""

from typing import Any, Callable, Optional

import numpy as np
import tensorflow as tf

from csml_tf.models.split_batch_norm import SplitBatchNormalization

# What `tf.keras.Model(inputs, outputs)` and `Sequential` are; Keras has no public name for it.
Functional = tf.keras.Sequential.__base__


def rebuild(
    outputs: Any,
    copies: dict,
    copy_layer: Callable[[tf.keras.layers.Layer], tf.keras.layers.Layer],
    with_weights: bool = True,
    followers: Optional[dict] = None,
) -> Any:
    """Repeats all layers that lead to some tensors of a functional model.

    Every call is repeated with all of its arguments, so that operators (`x + 3.0`, `x[..., 0]`)
    and layers that are called twice stay what they were. Models inside the model are taken
    apart: Keras 2 cannot rebuild a loaded model from its own config where that model holds
    another one with several outputs.

    Args:
        outputs: nested Keras tensors.
        copies: {id of a Keras tensor: the one to take in its place}, with the model's inputs
            at least; gets an entry for every tensor on the way.
        copy_layer: function of a layer to the one that takes its place; its weights may have
            other shapes, but not other sizes.
        with_weights: whether the weights are copied, too.
        followers: {id of a Keras tensor: layer that is put behind its copy}.

    Returns:
        The copies, structured as `outputs`.
    """
    layers = {}
    followers = followers or {}

    def call(layer, args, kwargs):
        if isinstance(layer, Functional):
            inner = dict(zip(map(id, layer.inputs), tf.nest.flatten(args[0])))
            return repeat(layer.outputs, inner)
        if id(layer) not in layers:
            layers[id(layer)] = copy_layer(layer)
        copy = layers[id(layer)]
        result = copy(*args, **kwargs)
        if with_weights and layer.weights:
            pairs = zip(layer.get_weights(), copy.weights)
            copy.set_weights([np.reshape(weight, variable.shape) for weight, variable in pairs])
        return tf.nest.flatten(result)

    def repeat(wanted, known):
        waiting = list(wanted)
        while waiting:
            tensor = waiting[-1]
            node = tensor.node
            missing = [each for each in node.keras_inputs if id(each) not in known]
            if id(tensor) in known:
                waiting.pop()
            elif missing:
                waiting += missing
            else:
                arguments = (node.call_args, node.call_kwargs)
                args, kwargs = tf.nest.map_structure(lambda v: known.get(id(v), v), arguments)
                made = call(node.layer, args, kwargs)
                for old, new in zip(tf.nest.flatten(node.outputs), made):
                    known[id(old)] = followers[id(old)](new) if id(old) in followers else new
        return [known[id(tensor)] for tensor in wanted]

    return tf.nest.pack_sequence_as(outputs, repeat(tf.nest.flatten(outputs), copies))


def stock_layer(layer: tf.keras.layers.Layer, **changes: Any) -> tf.keras.layers.Layer:
    """The layer that stands for one in an export: Keras' own, computing in float32.

    Args:
        layer: of a backbone or a head.
        **changes: of its config.
    """
    config = {**layer.get_config(), "dtype": "float32", **changes}
    if isinstance(layer, SplitBatchNormalization):
        del config["num_groups"]
        return tf.keras.layers.BatchNormalization.from_config(config)
    return type(layer).from_config(config)
