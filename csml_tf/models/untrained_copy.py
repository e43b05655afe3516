"""A network as it was before any training: the same layers, weights drawn anew from a seed."""

import numpy as np
import tensorflow as tf

from csml_tf.models import layer_copies

_LARGEST_SEED = 2**31 - 1


def make(model, seed):
    """The same layers with new weights, as their own initializers draw them.

    A function of the layers and `seed` alone: the global seeds of TensorFlow, Keras and NumPy
    are neither read nor moved, so that what others draw stays the same.

    Args:
        model: functional `tf.keras.Model` of one input, such as a backbone.
        seed: int at least 0.

    Returns:
        `tf.keras.Model` with the same outputs, in float32.

    Raises:
        ValueError: if the model is none whose layers can be repeated.
    """
    return _copy(model, seed)[0]


def draw_weights(model, seed):
    """The weights of `make`, in the order of `model.get_weights()`.

    Those that do not lead to the model's outputs stay what they are.
    """
    _, copies = _copy(model, seed)
    drawn = {
        id(variable): weight
        for layer, copy in copies
        for variable, weight in zip(layer.weights, copy.get_weights())
    }
    return [
        drawn.get(id(variable), weight)
        for variable, weight in zip(model.weights, model.get_weights())
    ]


def _copy(model, seed):
    """-> (the copy, a list of (layer, its copy))."""
    if not isinstance(model, layer_copies.Functional):
        raise ValueError(f"{model.name} is no functional model, so its layers are not known.")
    rng = np.random.default_rng(seed)
    copies = []

    def copy_layer(layer):
        config = layer.get_config()
        seeded = {n: _seeded(config[n], rng) for n in config if n.endswith("_initializer")}
        # Layers of models inside the model may have one name.
        copy = layer_copies.stock_layer(layer, name=f"untrained_{len(copies)}", **seeded)
        copies.append((layer, copy))
        return copy

    inputs = tf.keras.Input(model.input.shape[1:])
    outputs = layer_copies.rebuild(
        model.output, {id(model.input): inputs}, copy_layer, with_weights=False
    )
    return tf.keras.Model(inputs, outputs), copies


def _seeded(initializer, rng):
    """The config of an initializer, with a seed if it takes one."""
    seed = int(rng.integers(_LARGEST_SEED))
    if not isinstance(initializer, dict) or "seed" not in initializer.get("config", {}):
        return initializer
    return {**initializer, "config": {**initializer["config"], "seed": seed}}
