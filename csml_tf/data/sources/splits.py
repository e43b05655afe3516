"""What a kind of data set says of itself: how each of its own splits is opened."""

import dataclasses
from typing import Callable, Optional

from csml_tf.data.sources.base import ImageSource


@dataclasses.dataclass(frozen=True)
class Splits:
    """The splits that a data set has of its own; `catalog.Dataset` draws those it lacks.

    Each is a function of no arguments that opens an `ImageSource`. Where two splits are the
    same images, they are the same function, so that these are opened once.

    Attributes:
        train: the training images; all images where there is no test split.
        test: the test images, with the class numbers of `train`; None where there are none.
        pretrain: what an encoder may learn from; None for the training images without the
            test images drawn from them.
        notes: what is to be said of the data set: which images are which split, what made the
            classes, what is not used; a whole line each. Openers may add to it.
    """

    train: Callable[[], ImageSource]
    test: Optional[Callable[[], ImageSource]]
    pretrain: Optional[Callable[[], ImageSource]]
    notes: list[str] = dataclasses.field(default_factory=list)
