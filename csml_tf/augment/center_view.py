"""The one view of an image that evaluation and mining use: no chance in it."""

import tensorflow as tf

from csml_tf.augment import resampling


class CenterView:
    """Resize the shorter side, cut the centre, normalise.

    Args:
        image_size: height and width of the view, pixels.
        resize_size: shorter side before the cut, pixels; None takes the usual
            256 / 224 of `image_size`, or `image_size` itself below 64 px, where
            a margin would be cut from images that have none.
        mean: of each channel, of values in [0, 1], subtracted.
        std: of each channel, divided by.

    Raises:
        ValueError: if `resize_size` is below `image_size`.
    """

    def __init__(
        self,
        image_size,
        resize_size=None,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    ):
        if resize_size is None:
            resize_size = image_size if image_size < 64 else round(image_size * 256 / 224)
        if resize_size < image_size:
            raise ValueError(
                f"resize_size must be at least image_size {image_size}, got {resize_size}."
            )
        self.image_size = image_size
        self.resize_size = resize_size
        self.mean = tuple(mean)
        self.std = tuple(std)

    def __eq__(self, other):
        return isinstance(other, CenterView) and vars(self) == vars(other)

    def __hash__(self):
        return hash((self.image_size, self.resize_size, self.mean, self.std))

    def __str__(self):
        return f"shorter side {self.resize_size} px, centre {self.image_size} px"

    def __call__(self, images):
        """[height, width, 3] or [batch, height, width, 3] uint8 -> the view, float32."""
        crops = resampling.resize_and_center_crop(images, self.resize_size, self.image_size)
        return (tf.cast(crops, tf.float32) / 255.0 - self.mean) / self.std
