"""Features that the exported encoder of a run makes of held-out and of training images."""

import dataclasses

import numpy as np
from absl import logging

from csml_tf import features, similarity
from csml_tf.data.sources import base


@dataclasses.dataclass(frozen=True)
class ImageFeatures:
    """Images and what the encoder makes of them.

    Attributes:
        source: `sources.base.ImageSource`.
        values: [len(source), dim] float32 of unit length.
    """

    source: base.ImageSource
    values: np.ndarray


def extract(encoder, source, max_images, seed):
    """Features of a source, or of a seeded draw of it where it has more than `max_images`.

    Args:
        encoder: `FrozenEncoder`.
        source: `sources.base.ImageSource`.
        max_images: at most so many.
        seed: of the draw.

    Returns:
        `ImageFeatures`, in the order of the source.
    """
    drawn = draw(source, max_images, seed)
    logging.info("features of %d images of %s", len(drawn), source.name)
    values = features.extract_features(
        encoder.encode(), drawn, encoder.center_view, description=f"features of {source.name}"
    )
    return ImageFeatures(drawn, similarity.l2_normalize(values))


def draw(source, max_images, seed):
    """The source itself, or a subset of `max_images` drawn at random, in the source's order."""
    if len(source) <= max_images:
        return source
    chosen = np.random.default_rng(seed).choice(len(source), max_images, replace=False)
    name = f"{max_images} of {source.name}, drawn with seed {seed}"
    return source.subset(np.sort(chosen), name)
