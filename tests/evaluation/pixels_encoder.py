"""An encoder whose features can be worked out by hand: the pixels of 8 px images."""

from csml_tf import features
from csml_tf.augment.center_view import CenterView

_LAYERS = {"features": features.flatten, "upper": lambda images: features.flatten(images[:, :4])}


class PixelsEncoder:
    """Pixels as "features"; the layer "upper" sees the upper half only."""

    center_view = CenterView(8, mean=(0.0,) * 3, std=(1.0,) * 3)

    def encode_layers(self, layers):
        return lambda images: {layer: _LAYERS[layer](images) for layer in layers}

    def untrained(self):
        return lambda images: features.flatten(images[:, :2])
