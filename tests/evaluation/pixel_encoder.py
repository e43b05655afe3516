"""A frozen encoder without weights: the pixels of an 8 px view."""

import numpy as np
import tensorflow as tf

from csml_tf import features
from csml_tf.augment.center_view import CenterView
from csml_tf.data.sources import memory

_LAYERS = {
    "features": lambda images: features.flatten(images[..., 0]),
    "embedding": lambda images: tf.reduce_mean(images[..., 0], axis=1)[:, ::4],
    "upper": lambda images: features.flatten(images[:, :4, :, 0]),
    "stage1": lambda images: images,
}


class PixelEncoder:
    """The parts of `FrozenEncoder` that the protocols use.

    "features" are all pixels, "embedding" is the brightness of the two halves, "upper" the upper
    half of the pixels, and "stage1" is the image itself as a map. Untrained, it sees two rows, from
    that of the seed on.
    """

    directory = "pixels"
    id = "pixels"
    center_view = CenterView(8, mean=(0.0,) * 3, std=(1.0,) * 3)

    def all_maps(self, layers):
        return lambda images: {layer: _LAYERS[layer](images) for layer in layers}

    def encode_layers(self, layers):
        return self.all_maps(layers)

    def untrained(self, seed=0):
        return lambda images: features.flatten(images[:, seed : seed + 2, :, 0])


def make_sources(num_train=100, num_test=50):
    digits = memory.load_digits()
    stop = num_train + num_test
    return digits.subset(range(num_train), "train"), digits.subset(range(num_train, stop), "test")


def make_noise(counts, size, num_classes):
    """A `MemorySource` of each count of images, whose labels say nothing about them."""
    rng = np.random.default_rng(0)
    return [
        memory.MemorySource(
            rng.integers(0, 256, [count, size, size], np.uint8), rng.integers(0, num_classes, count)
        )
        for count in counts
    ]


def pixels(source):
    """[len(source), 64] float64 in [0, 1], as the encoder makes them of a centre view."""
    return [source.read(i).numpy()[..., 0].ravel() / 255 for i in range(len(source))]
