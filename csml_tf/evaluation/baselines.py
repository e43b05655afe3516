"""What an encoder has to beat: pixels, colors, and its own network untrained."""

import functools

import numpy as np
import tensorflow as tf
from absl import logging

from csml_tf.errors import InputError
from csml_tf.evaluation import plain_features

# {name in results: name in sentences}, in the order in which they are shown.
NAMES = {
    "pixels": "raw pixels",
    "color_histogram": "a color histogram",
    "untrained": "untrained weights",
}
# One draw of weights may be lucky.
DRAWS = 3
# A side of the pixels' view: 768 numbers, no more than features have, on any number of images.
_PIXELS_SIDE = 16
# For a protocol card.
PROTOCOL = (
    f"pixels of at most {_PIXELS_SIDE} px a side, 8x8x8 colors, {DRAWS} draws of untrained weights"
)


def make_plain():
    """{name: function of [batch, size, size, 3] images in [0, 1] to [batch, dim]}.

    Of those baselines that need no network; for images of one size.
    """

    def pixels(images):
        return plain_features.pixels(images, _PIXELS_SIDE)

    functions = {"pixels": pixels, "color_histogram": plain_features.color_histogram}
    return {
        name: tf.function(function, autograph=False, reduce_retracing=True)
        for name, function in functions.items()
    }


class Baselines:
    """Measures the baselines of one pair of sources by any protocol, each of them once.

    Pixels and colors are measured once for each protocol and view, untrained weights once for
    each protocol, view and network.

    Args:
        train_source: labelled `ImageSource`.
        test_source: labelled `ImageSource`.
    """

    def __init__(self, train_source, test_source):
        self._sources = train_source, test_source
        self._measured = {}

    def measure(self, encoder, name, protocol, figure):
        """The figures of all baselines, by a protocol as it measures the encoder.

        Args:
            encoder: `FrozenEncoder`, whose view and network they share. If it has no Keras
                layers whose weights could be drawn anew, "untrained" is left out.
            name: of the protocol with its settings; what has one name is measured once.
            protocol: function of (encoder, train_source, test_source, layer=names) to an
                `Outcome`, as `protocols.measure` calls it.
            figure: name of the result to take, such as "top1".

        Returns:
            {"pixels", "color_histogram", "untrained": figure, "untrained_std": deviation over
            the `DRAWS` of weights, n - 1 in the denominator}.
        """
        view = encoder.center_view
        found = dict(self._once((name, str(view)), make_plain(), view, protocol, figure))
        try:
            draws = {f"untrained_{seed}": encoder.untrained(seed) for seed in range(DRAWS)}
        except InputError as error:
            logging.warning("Untrained weights are not measured: %s", error)
            return found
        # A network is known by what it makes of an image with weights of one seed.
        size = view.image_size
        probe = tf.random.stateless_uniform([1, size, size, 3], [0, 0])
        key = (name, str(view), draws["untrained_0"](probe).numpy().tobytes())
        values = list(self._once(key, draws, view, protocol, figure).values())
        return {
            **found,
            "untrained": float(np.mean(values)),
            "untrained_std": float(np.std(values, ddof=1)),
        }

    def _once(self, key, functions, view, protocol, figure):
        if key not in self._measured:
            outcome = protocol(_Functions(functions, view), *self._sources, layer=list(functions))
            self._measured[key] = _figures_by_layer(outcome.result, functions, figure)
        return self._measured[key]


class _Functions:
    """Some functions of images in place of the layers of a `FrozenEncoder`."""

    directory = "the baselines"

    def __init__(self, functions, center_view):
        self._functions = functions
        self.center_view = center_view

    def all_maps(self, layers):
        return functools.partial(self._make, layers)

    encode_layers = all_maps

    def _make(self, layers, images):
        return {layer: self._functions[layer](images) for layer in layers}


def _figures_by_layer(result, layers, figure):
    rows = {row["layer"]: row for row in result["grid"]}
    return {layer: result.get(f"{layer}_{figure}", rows[layer].get(figure)) for layer in layers}


def best(figures):
    """-> (name, figure) of the best baseline; `figures` as of `Baselines.measure`."""
    return max(
        ((name, figures[name]) for name in NAMES if name in figures), key=lambda item: item[1]
    )


def judge(own, figures):
    """A sentence where a baseline is ahead of the encoder, or None.

    Args:
        own: the encoder's figure, in [0, 1].
        figures: as of `Baselines.measure`.

    Example:
        >>> print(judge(0.5, {"pixels": 0.625, "untrained": 0.25, "untrained_std": 0.01}))
        Raw pixels are ahead of the encoder by 12.50 points: what it has learnt does not help here.
    """
    name, figure = best(figures)
    if figure <= own:
        return None
    words = NAMES[name][0].upper() + NAMES[name][1:]
    verb = "is" if words.startswith("A ") else "are"
    sentence = (
        f"{words} {verb} ahead of the encoder by {100 * (figure - own):.2f} points: what it has "
        "learnt does not help here."
    )
    if name == "color_histogram":
        sentence += (
            " Where colors tell classes apart, train it with views that keep them: "
            "--gin_file=base/keep_colors.gin after the recipe's."
        )
    return sentence
