"""Patches of real pictures that come with installed packages: which picture is one from?"""

import functools

import numpy as np

from csml_tf.data.sources.memory import MemorySource
from csml_tf.data.sources.splits import Splits
from csml_tf.errors import InputError

PATCH_SIZE = 64  # Pixels.
_SIDES = (64, 160)  # Smallest and largest side of what is cut out, pixels of the picture.
_PATCHES = {"train": 150, "test": 50}  # Of each picture.
_TRAIN_SHARE = 0.6  # Of a picture's width, from the left; test patches are cut to the right of it.
_MEANS = (100, 155)  # Of a patch's grey levels, and their standard deviation: in random light.
_DEVIATIONS = (25, 50)
_MIN_DEVIATION = 12  # Of the grey levels: an empty piece of sky could be of any picture.

# Functions of `skimage.data` whose files are in its wheel. Photographs, one of them through a
# microscope, one through a telescope and one into an eye, and two scans; in the public domain or
# CC0, as its documentation of each says. Left out are those that are flat for the most part.
_SCIKIT_IMAGE = (
    "astronaut",
    "brick",
    "camera",
    "chelsea",
    "coffee",
    "coins",
    "grass",
    "gravel",
    "hubble_deep_field",
    "immunohistochemistry",
    "page",
    "retina",
    "text",
)
# Of `sklearn.datasets.load_sample_image`, CC BY 2.0; its images/README.txt names who took them.
_SCIKIT_LEARN = ("china", "flower")


def load_patches(split: str) -> MemorySource:
    """Patches of 15 pictures, each labelled with the picture that it is from.

    A patch is a square of a random side from 64 to 160 px at a random place, turned by a random
    quarter turn. Training patches come from the left three fifths of a picture, test patches
    from the rest, so that no pixel is in both. All are grey and in a random light, since most
    pictures could be told by their colors and brightness alone. Pieces without contrast are left
    out.

    Args:
        split: "train", 150 patches of each picture, or "test", 50.

    Returns:
        A `MemorySource` of 64 x 64 px grey images, always the same.

    Raises:
        InputError: if scikit-image is not installed.
    """
    pictures = _load_pictures()
    rng = np.random.default_rng(("train", "test").index(split))
    patches = [
        _cut(picture, split, rng) for picture in pictures.values() for _ in range(_PATCHES[split])
    ]
    labels = np.repeat(np.arange(len(pictures)), _PATCHES[split])
    return MemorySource(np.stack(patches), labels, list(pictures), name=f"patches:{split}")


def open_patches(dataset="patches", data_dir=None, download=False):
    """The splits of "patches"."""
    del dataset, data_dir, download  # Nothing to choose.
    train, test = (functools.partial(load_patches, split) for split in ("train", "test"))
    return Splits(train, test, pretrain=None)


def _load_pictures():
    """{name: [height, width] uint8}, by name."""
    from sklearn import datasets  # Here: they take a second to import, and only this needs them.

    try:
        from skimage import data
    except ImportError as error:
        raise InputError(
            "patches are cut from the pictures of scikit-image, which is not installed: "
            "pip install -c constraints.txt '.[demo]', or take --dataset=digits."
        ) from error
    pictures = {name: getattr(data, name)() for name in _SCIKIT_IMAGE}
    pictures.update({name: datasets.load_sample_image(f"{name}.jpg") for name in _SCIKIT_LEARN})
    return {name: _as_grey(picture) for name, picture in sorted(pictures.items())}


def _as_grey(picture):
    if picture.ndim == 2:
        return picture
    return np.round(picture @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)  # ITU-R BT.601.


def _cut(picture, split, rng):
    """One patch, [64, 64] uint8."""
    from PIL import Image  # It comes with scikit-image.

    height, width = picture.shape
    border = int(width * _TRAIN_SHARE)
    left, right = (0, border) if split == "train" else (border, width)
    while True:
        side = int(np.exp(rng.uniform(*np.log(_SIDES))))
        side = min(side, height, right - left)
        y = rng.integers(height - side + 1)
        x = rng.integers(left, right - side + 1)
        square = picture[y : y + side, x : x + side]
        if square.std() >= _MIN_DEVIATION:
            break
    patch = Image.fromarray(square).resize((PATCH_SIZE, PATCH_SIZE), Image.BILINEAR)
    return np.rot90(_in_other_light(np.asarray(patch, np.float32), rng), rng.integers(4))


def _in_other_light(patch, rng):
    """The same with a random mean and a random spread of its grey levels."""
    relative = (patch - patch.mean()) / (patch.std() + 1e-6)
    patch = rng.uniform(*_MEANS) + rng.uniform(*_DEVIATIONS) * relative
    return np.clip(np.round(patch), 0, 255).astype(np.uint8)
