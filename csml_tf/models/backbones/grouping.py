"""A network with the grouped batch norm that contrastive training wants, for any image size."""

import re
from typing import Callable, Optional

import tensorflow as tf

from csml_tf.models import layer_copies
from csml_tf.models.split_batch_norm import SplitBatchNormalization

# Of SyncBatchNormalization, too; Keras has no public name for it.
_BATCH_NORM = tf.keras.layers.BatchNormalization.__base__


def group_batch_norm(network: tf.keras.Model, num_groups: int) -> tf.keras.Model:
    """Copies a functional Keras model, with `SplitBatchNormalization` in place of batch norm.

    All settings and weights are kept. What was drawn at random, dropout and stochastic depth, is
    left out: a step is a function of seed and step number. The copy takes images of any size
    from its own input, [None, None, 3], and numbers layers without a name of their own from 1,
    so that its names are the same in every process.

    Args:
        network: from images to anything.
        num_groups: as for `SplitBatchNormalization`.

    Returns:
        `tf.keras.Model`.
    """
    images = tf.keras.Input([None, None, 3], name="images")
    copies = {id(network.input): images}
    outputs = layer_copies.rebuild(network.output, copies, LayerGrouping(num_groups))
    return tf.keras.Model(images, outputs, name=network.name)


class LayerGrouping:
    """What takes the place of each layer of one network, for `layer_copies.rebuild`.

    Args:
        num_groups: of batch norm.
        replace: function of (layer, config) to another layer, or None to keep its kind.
    """

    def __init__(self, num_groups: int, replace: Optional[Callable] = None):
        self._num_groups = num_groups
        self._replace = replace
        self._names = {"images", "preprocess"}

    def __call__(self, layer: tf.keras.layers.Layer) -> tf.keras.layers.Layer:
        """The layer to take, not built yet."""
        config = {**layer.get_config(), "name": self._name(layer)}
        other = None if self._replace is None else self._replace(layer, config)
        if other is not None:
            return other
        if isinstance(layer, _BATCH_NORM):
            config.pop("synchronized", None)  # Groups say how far the statistics reach.
            return SplitBatchNormalization(**{**config, "num_groups": self._num_groups})
        if _is_random(layer):
            return tf.keras.layers.Activation("linear", name=config["name"])
        return type(layer).from_config(config)

    def _name(self, layer):
        kind = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(layer).__name__).lower()
        unnamed = re.fullmatch(rf"({kind}|tf\..+?)(_\d+)?", layer.name)
        name = stem = unnamed[1] if unnamed else layer.name
        count = 1
        while name in self._names:
            count += 1
            name = f"{stem}_{count}"
        self._names.add(name)
        return name


def _is_random(layer):
    kinds = {kind.__name__ for kind in type(layer).__mro__}
    return bool(kinds & {"Dropout", "StochasticDepth", "GaussianNoise", "GaussianDropout"})
