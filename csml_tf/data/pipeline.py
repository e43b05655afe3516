"""The input of a training step, as a pure function of (seed, epoch, step).

Nothing here keeps state. One draw of uniform numbers per step decides the
neighbours and every augmentation, and the epoch's order is a stateless
permutation, so any step can be had by its number: a run resumes in the middle of
an epoch without an iterator to save, and the same step has the same bytes
whatever the number of threads.
"""

import tensorflow as tf

from csml_tf.errors import InputError

# Folded into the seed, so that the order and the draws of an epoch are independent.
_ORDER_STREAM = 0
_DRAW_STREAM = 1


def steps_per_epoch(source, global_batch_size):
    """Whole batches in one pass over the source; the rest waits for another epoch's order.

    Raises:
        InputError: if the batch is larger than the source.
    """
    if global_batch_size > len(source):
        raise InputError(
            f"A batch of {global_batch_size} images is larger than {source.name}, which has "
            f"{len(source)}: lower GLOBAL_BATCH_SIZE to {len(source)} or less."
        )
    return len(source) // global_batch_size


def make_epoch(
    source, augmentation, view_names, global_batch_size, seed, epoch, table=None, first_step=0
):
    """The batches of one epoch.

    Args:
        source: `sources.base.ImageSource` of the training images.
        augmentation: `augment.view.ViewAugmentation`, drawn anew for every view.
        view_names: which views to make. Names that begin with "neighbor_" are views
            of a neighbour, all of the same one; the others are views of the anchor.
        global_batch_size: anchors per batch.
        seed: int, of the run.
        epoch: int from 0; with the seed it decides the order.
        table: `NeighborTable`; needed where `view_names` asks for neighbours.
        first_step: of the epoch, from 0; the steps before it are not computed.

    Returns:
        `tf.data.Dataset` of {view name: [global_batch_size, size, size, 3] float32,
        normalised}.

    Raises:
        InputError: if the batch is larger than the source.
        ValueError: if a neighbour is asked for without a table.
    """
    num_steps = steps_per_epoch(source, global_batch_size)
    uses_neighbors = any(name.startswith("neighbor_") for name in view_names)
    if uses_neighbors and table is None:
        raise ValueError(f"Views {tuple(view_names)} need a neighbour table.")

    def draw(step):
        """Step -> (anchor indices [batch], neighbour indices [batch], uniforms of the views)."""
        indices = epoch_order(
            step * global_batch_size + tf.range(global_batch_size, dtype=tf.int64),
            len(source),
            seed,
            epoch,
        )
        columns = 1 + len(view_names) * augmentation.num_uniforms
        uniforms = tf.random.stateless_uniform(
            [global_batch_size, columns], _fold_in(seed, epoch, _DRAW_STREAM, step)
        )
        neighbors = table.draw(indices, uniforms[:, 0]) if uses_neighbors else indices
        shape = [global_batch_size, len(view_names), augmentation.num_uniforms]
        return indices, neighbors, tf.reshape(uniforms[:, 1:], shape)

    def crop(index, neighbor, uniforms):
        """Reads one anchor (or a batch of equal-sized ones) and cuts its views."""
        image = source.read(index)
        neighbor_image = source.read(neighbor) if uses_neighbors else image
        views = {}
        for name, view_uniforms in zip(view_names, tf.unstack(uniforms, axis=-2)):
            origin = neighbor_image if name.startswith("neighbor_") else image
            views[name] = (augmentation.geometric(origin, view_uniforms), view_uniforms)
        return views

    def color(views):
        return {name: augmentation.photometric(*views[name]) for name in view_names}

    steps = tf.data.Dataset.range(first_step, num_steps)
    if source.image_shape is not None:
        # Equal images in memory: a whole batch is read and cropped in one go.
        def make_batch(step):
            return color(crop(*draw(step)))

        batches = steps.map(make_batch, num_parallel_calls=tf.data.AUTOTUNE)
    else:
        anchors = steps.map(draw).unbatch()
        anchors = anchors.map(crop, num_parallel_calls=tf.data.AUTOTUNE)
        batches = anchors.batch(global_batch_size, drop_remainder=True)
        batches = batches.map(color, num_parallel_calls=tf.data.AUTOTUNE)
    batches = batches.apply(tf.data.experimental.assert_cardinality(num_steps - first_step))
    return batches.prefetch(tf.data.AUTOTUNE)


def epoch_order(positions, num_images, seed, epoch):
    """The images at the given positions of an epoch's order.

    Args:
        positions: [n] int64, from 0 to `num_images` - 1.
        num_images: int.
        seed: int, of the run.
        epoch: int from 0.

    Returns:
        [n] int64 indices; over all positions of one epoch each image occurs once.
    """
    return tf.random.experimental.index_shuffle(
        positions,
        seed=_fold_in(seed, epoch, _ORDER_STREAM),
        max_index=tf.constant(num_images - 1, tf.int64),
    )


def _fold_in(seed, *words):
    folded = tf.constant([seed, seed], tf.int32)
    for word in words:
        folded = tf.random.experimental.stateless_fold_in(folded, word)
    return folded
