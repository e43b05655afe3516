"""Batches of images with their labels, for supervised training: a function of (seed, epoch, step).

The images are those of `pipeline.make_epoch`, one view of each; the labels follow the same
order, which is stateless, so the two can be made apart and put side by side.
"""

import numpy as np
import tensorflow as tf

from csml_tf.augment.view import ViewAugmentation
from csml_tf.data import pipeline
from csml_tf.data.sources import base

_VIEW = "image"


def make_labelled_epoch(
    source,
    augmentation,
    global_batch_size,
    seed,
    epoch,
    labels=None,
    first_step=0,
    part=0,
    num_parts=1,
):
    """One epoch of augmented images and their labels, or one part of every batch.

    Whole batches only: the images left over wait for another epoch's order.

    Args:
        source: `sources.base.ImageSource`.
        augmentation: `augment.view.ViewAugmentation`, such as `make_crop_and_flip` makes.
        global_batch_size: images per batch, at most as many as the source has.
        seed: int, of the run.
        epoch: int from 0; with the seed it decides order and views.
        labels: [len(source)] integers, in place of the source's own.
        first_step: of the epoch, from 0.
        part: as for `pipeline.make_epoch`.
        num_parts: as for `pipeline.make_epoch`.

    Returns:
        `tf.data.Dataset` of ([batch, size, size, 3] float32, normalised; [batch] int64), with
        batch = global_batch_size / num_parts.

    Raises:
        InputError: if the batch is larger than the source, or cannot be divided by `num_parts`.
        ValueError: if there is not one label for each image.
    """
    labels = np.asarray(source.labels if labels is None else labels)
    if labels.shape != (len(source),):
        raise ValueError(f"labels must be [{len(source)}], one an image, got {labels.shape}.")
    images = pipeline.make_epoch(
        source,
        {_VIEW: augmentation},
        global_batch_size,
        seed,
        epoch,
        first_step=first_step,
        part=part,
        num_parts=num_parts,
    )
    batch_size = global_batch_size // num_parts
    all_labels = base.host_constant(labels.astype(np.int64))

    def labels_of(step):
        first = step * global_batch_size + part * batch_size
        positions = first + tf.range(batch_size, dtype=tf.int64)
        return tf.gather(all_labels, pipeline.epoch_order(positions, len(source), seed, epoch))

    steps = tf.data.Dataset.range(first_step, pipeline.steps_per_epoch(source, global_batch_size))
    return tf.data.Dataset.zip((images.map(lambda views: views[_VIEW]), steps.map(labels_of)))


def make_crop_and_flip(image_size, crop_scale=(0.08, 1.0), flip_probability=0.5):
    """The usual augmentation of supervised training: RandomResizedCrop and horizontal flip.

    Args:
        image_size: height and width of a view, pixels.
        crop_scale: smallest and largest area of the crop, as a share of the image's.
        flip_probability: that left and right are swapped.

    Returns:
        `ViewAugmentation` whose views are RGB in [0, 1], as exported models take them.
    """
    return ViewAugmentation(
        image_size=image_size,
        crop_scale=crop_scale,
        jitter_probability=0.0,
        grayscale_probability=0.0,
        blur_probability=0.0,
        flip_probability=flip_probability,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
    )
