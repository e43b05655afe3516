"""The images of a run, and what its exported encoder makes of them."""

import dataclasses
from typing import Optional

from csml_tf import fetched
from csml_tf.data import catalog
from csml_tf.data.sources import base
from csml_tf.errors import InputError
from csml_tf.evaluation.frozen_encoder import FrozenEncoder
from csml_tf.export import trust
from csml_tf.reports import trained_features
from csml_tf.reports.run_record import RunRecord


@dataclasses.dataclass(frozen=True)
class RunImages:
    """What the parts with images work on.

    Attributes:
        pretrain: `ImageSource` that the run trained on.
        test: `trained_features.ImageFeatures` of held-out images, or None.
        train: the same of training images, or None.
        share_training: whether the run has trained on the held-out images too.
        weights: SHA-256 of the exported encoder, or None.
        no_features: why there are no features; None where there are.
        queries: `trained_features.ImageFeatures` of images to look up, or None.
    """

    pretrain: base.ImageSource
    test: Optional[trained_features.ImageFeatures]
    train: Optional[trained_features.ImageFeatures]
    share_training: bool
    weights: Optional[str]
    no_features: Optional[str]
    queries: Optional[trained_features.ImageFeatures] = None


def read(
    record: RunRecord, dataset, data_dir, max_test_images, max_train_images, seed, queries=None
):
    """Opens the images of a run and encodes them.

    Args:
        record: of the run.
        dataset: data set string.
        data_dir: where TFDS finds its data sets; None takes TFDS' own default.
        max_test_images: how many held-out images are encoded at most, drawn by the seed.
        max_train_images: the same of training images.
        seed: of the draws.
        queries: path of an image file, or of a folder of images, to look up; or None.

    Returns:
        `RunImages`.

    Raises:
        InputError: if there is no such data set, or no image to look up.
    """
    try:
        opened = catalog.open_dataset(dataset, data_dir)
        pretrain = opened.split("pretrain")
    except InputError as error:
        raise InputError(
            f"{str(error).rstrip('.')}; --noimages makes a report without images."
        ) from error
    wanted = None if queries is None else catalog.open_images(queries)
    if not record.directory.saved_model.exists():
        sentence = "The run has exported no encoder yet: let csml-tf train finish it."
        return RunImages(pretrain, None, None, False, None, sentence)
    try:
        folder = fetched.on_disk(record.directory.saved_model)
        trust.check(folder)
        encoder = FrozenEncoder(folder)
    except InputError as error:
        return RunImages(pretrain, None, None, False, None, str(error))
    train, test = opened.split("train"), opened.split("test")
    # A drawn test set of a folder, all of whose images are trained on.
    is_drawn = isinstance(test, base.SubsetSource)
    share_training = is_drawn and len(train) + len(test) == len(pretrain)
    weights = encoder.digest()
    test = trained_features.extract(encoder, test, max_test_images, seed)
    train = trained_features.extract(encoder, train, max_train_images, seed)
    if wanted is not None:
        wanted = trained_features.extract(encoder, wanted, len(wanted), seed)
    return RunImages(pretrain, test, train, share_training, weights, None, wanted)
