"""Features of a whole image source, in index order."""

import numpy as np
import tensorflow as tf

from csml_tf import progress


def extract_features(encode, source, center_view, batch_size=256, description="features"):
    """Runs an encoder over every image of a source, without augmentation.

    Args:
        encode: function of [batch, size, size, 3] float32 images, as `center_view`
            makes them, that returns [batch, dim]; a `tf.function`, or it is slow.
        source: `sources.base.ImageSource`.
        center_view: `augment.view.CenterView`.
        batch_size: images per call; the last call gets the rest.
        description: of the progress bar.

    Returns:
        [len(source), dim] float32 features; row i belongs to image i.
    """
    features = None
    done = 0
    with progress.bar(len(source), description, unit="images") as advance:
        for images in _batches(source, center_view, batch_size):
            block = encode(images).numpy()
            if features is None:
                features = np.empty([len(source), block.shape[1]], np.float32)
            features[done : done + len(block)] = block
            done += len(block)
            advance(len(block))
    return features


def flatten(images):
    """An encoder that does nothing, the baseline of raw pixels: [batch, ...] -> [batch, n]."""
    return tf.reshape(images, [tf.shape(images)[0], -1])


def _batches(source, center_view, batch_size):
    if source.image_shape is not None:
        starts = tf.data.Dataset.range(0, len(source), batch_size)

        def read(start):
            stop = tf.minimum(start + batch_size, len(source))
            return center_view(source.read(tf.range(start, stop)))

        return starts.map(read, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
    indices = tf.data.Dataset.range(len(source))
    images = indices.map(
        lambda index: center_view(source.read(index)), num_parallel_calls=tf.data.AUTOTUNE
    )
    return images.batch(batch_size).prefetch(tf.data.AUTOTUNE)
