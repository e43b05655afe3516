"""Single images of a source as people look at them: whole, small enough, with their class."""

import dataclasses
import os
from typing import Optional

import numpy as np
import tensorflow as tf

# The longer side of an `Original`; photographs may have thousands.
MAX_ORIGINAL_PX = 400
_LINE_LENGTH = 26


@dataclasses.dataclass(frozen=True)
class Original:
    """An image of a source, and where its views look.

    Attributes:
        pixels: [height, width, 3] uint8, scaled down where larger than what was asked for.
        index: of the image in its source.
        label: name of its class; None where unknown.
        path: of its file; None where it is from no file.
        windows: {view name: [4] float, pixels: top, left, height, width}.
        full_size: (height, width) before scaling; None where it does not matter.
    """

    pixels: np.ndarray
    index: int
    label: Optional[str]
    path: Optional[str]
    windows: dict = dataclasses.field(default_factory=dict)
    full_size: Optional[tuple] = None

    @property
    def scale(self):
        """Length in `pixels` over length in the full size, at most 1."""
        return max(self.pixels.shape[:2]) / max(self.full_size)

    def describe(self):
        """Index and class, and the file on a second line; long lines are cut."""
        first = f"#{self.index}" if self.label is None else f"#{self.index}, {self.label}"
        lines = [first] if self.path is None else [first, os.path.basename(self.path)]
        return "\n".join(
            line if len(line) <= _LINE_LENGTH else f"{line[: _LINE_LENGTH - 1]}…" for line in lines
        )


class Originals:
    """Reads `Original`s, without windows.

    Args:
        source: `sources.base.ImageSource`.
        max_px: longer side of the pixels, at most.
    """

    def __init__(self, source, max_px=MAX_ORIGINAL_PX):
        self._source = source
        self._max_px = max_px
        # Each may be made when asked for: of a million images, once is enough.
        self._labels, self._paths = source.labels, source.paths

    def read(self, index):
        """The `Original` of one image, by its index in the source."""
        index = int(index)
        pixels = self._source.read(tf.constant(index, tf.int64)).numpy()
        full_size = pixels.shape[:2]
        scale = min(1.0, self._max_px / max(full_size))
        if scale < 1:
            size = [max(1, round(side * scale)) for side in full_size]
            pixels = tf.image.resize(pixels, size, "area").numpy().round().astype(np.uint8)
        path = None if self._paths is None else self._paths[index]
        return Original(pixels, index, self._label(index), path, full_size=full_size)

    def _label(self, index):
        if self._labels is None or self._labels[index] < 0:
            return None
        return class_name(self._source.class_names, self._labels[index])


def class_name(class_names, label):
    """Name of a class by its number; the number where classes have no names."""
    return str(label) if class_names is None else class_names[label]
