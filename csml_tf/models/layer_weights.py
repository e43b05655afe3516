"""Weights from elsewhere, put into layers that they fit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf


def set_all(model: tf.keras.Model, weights: dict[str, Sequence[np.ndarray]]) -> str | None:
    """Sets every layer that has weights, by its name; or none, if one of them does not fit.

    Args:
        model: whose layers are set.
        weights: {layer name: its weights}, in the order of `get_weights`.

    Returns:
        The name of the first layer that does not fit; None when all are set.
    """
    layers = [layer for layer in model.layers if layer.weights]
    for layer in layers:
        if not fits(layer, weights.get(layer.name, ())):
            return layer.name
    for layer in layers:
        layer.set_weights(weights[layer.name])
    return None


def set_one(layer: tf.keras.layers.Layer, weights: Sequence[np.ndarray]) -> bool:
    """Sets a layer's weights if they fit; returns whether."""
    if fits(layer, weights):
        layer.set_weights(weights)
        return True
    return False


def fits(layer: tf.keras.layers.Layer, weights: Sequence[np.ndarray]) -> bool:
    """Whether there are as many weights as the layer has, of the same shapes."""
    return [tuple(w.shape) for w in layer.weights] == [tuple(w.shape) for w in weights]
