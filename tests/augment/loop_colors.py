"""What photometric operations are, by loops in NumPy: one image [height, width, 3] in [0, 1]."""

import colorsys
import itertools

import numpy as np

LUMA = np.array([0.299, 0.587, 0.114])


def _clip(image):
    return np.minimum(np.maximum(image, 0.0), 1.0)


def brightness(image, factor):
    return _clip(factor * image)


def contrast(image, factor):
    return _clip(factor * image + (1 - factor) * np.mean(image @ LUMA))


def saturation(image, factor):
    return _clip(factor * image + (1 - factor) * (image @ LUMA)[..., None])


def hue(image, shift):
    turned = np.empty_like(image)
    for row, column in np.ndindex(image.shape[:2]):
        angle, *others = colorsys.rgb_to_hsv(*image[row, column])
        turned[row, column] = colorsys.hsv_to_rgb((angle + shift) % 1.0, *others)
    return turned


def blur(image, sigma_px, radius=None):
    if radius is None:
        radius = int(8 * sigma_px) + 1  # A true Gaussian: what is cut off is below 1e-14.
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (offsets / sigma_px) ** 2)
    weights /= weights.sum()
    for axis in (0, 1):
        places = np.arange(image.shape[axis])
        image = sum(
            weight * np.take(image, np.clip(places + offset, 0, places[-1]), axis)
            for offset, weight in zip(offsets, weights)
        )
    return image


LOOPS = {
    "brightness": brightness,
    "contrast": contrast,
    "saturation": saturation,
    "hue": hue,
}


def jitter(image, order, strengths):
    """The operations that have a strength, one after the other, in the order of that number."""
    names = list(itertools.permutations(["brightness", "contrast", "saturation"]))
    names = list(names[order % 6])
    names.insert(order // 6, "hue")
    for name in names:
        if name in strengths:
            image = LOOPS[name](image, strengths[name])
    return image
