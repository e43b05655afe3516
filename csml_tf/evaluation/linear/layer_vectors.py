"""Layers of a frozen encoder as vectors, for classifiers that are linear in them."""

import math

import tensorflow as tf

from csml_tf.errors import InputError, first_line
from csml_tf.models.adaptive_pooling import AdaptiveAveragePooling2D


class LayerVectors:
    """Makes one vector of each chosen layer, all in one pass of the network.

    A stage's map is average-pooled to a square grid and laid out as one vector: to one cell,
    or to as many as `stage_features` numbers have room for, but no more than the map has.

    Args:
        encoder: `FrozenEncoder`; its images have the size of its `center_view`.
        layers: some of `frozen_encoder.LAYERS`.
        stage_features: largest length of a stage's vector; None pools to one cell.

    Attributes:
        dims: {layer: length of its vector}.
        pooling: list of str, how each layer becomes its vector, for a protocol card.

    Raises:
        InputError: if the model lacks a layer or does not take images of this size, or
            `stage_features` is smaller than the channels of a stage.
    """

    def __init__(self, encoder, layers, stage_features=None):
        layers = tuple(dict.fromkeys(layers))
        self._maps = encoder.all_maps(layers)
        shapes = self._probe(encoder)
        self.dims = {}
        self.pooling = []
        self._pools = {}
        for layer in layers:
            *sides, channels = shapes[layer]
            if not sides:
                self.dims[layer] = channels
                self.pooling.append(f"{layer}:{channels}")
                continue
            grid_size = _choose_grid(layer, min(sides), channels, stage_features)
            self._pools[layer] = AdaptiveAveragePooling2D(grid_size)
            self.dims[layer] = grid_size**2 * channels
            self.pooling.append(f"{layer}:{grid_size}x{grid_size}x{channels}")

    def __call__(self, images):
        """[batch, size, size, 3] images in [0, 1] -> {layer: [batch, dim] float32}."""
        vectors = {}
        for layer, output in self._maps(images).items():
            output = tf.cast(output, tf.float32)
            if layer in self._pools:
                output = self._pools[layer](output)
            vectors[layer] = tf.reshape(output, [-1, self.dims[layer]])
        return vectors

    def _probe(self, encoder):
        """{layer: shape of its output for one image}."""
        size = encoder.center_view.image_size
        try:
            outputs = self._maps(tf.zeros([1, size, size, 3]))
        except (ValueError, TypeError, tf.errors.OpError) as error:
            raise InputError(
                f"The model in {encoder.directory} cannot be run on an image of {size} px "
                f"({first_line(error)}): choose another --image_size."
            ) from error
        return {layer: output.shape[1:].as_list() for layer, output in outputs.items()}


def _choose_grid(layer, side, channels, stage_features):
    if stage_features is None:
        return 1
    if stage_features < channels:
        raise InputError(
            f"--stage_features={stage_features} has no room for the {channels} channels of "
            f"{layer}: give at least {channels}."
        )
    return min(side, math.isqrt(stage_features // channels))


def headline_name(figure, layer, num_layers):
    """What a figure is called beside those of other layers.

    Example:
        >>> headline_name("top1", "stage3", num_layers=1)
        'top1'
        >>> headline_name("top1", "stage3", num_layers=2)
        'stage3_top1'
    """
    return figure if num_layers == 1 else f"{layer}_{figure}"
