"""The input of a training step, as a pure function of (seed, epoch, step).

Nothing here keeps state. One draw of uniform numbers per step decides the
neighbours and every augmentation, and the epoch's order is a stateless
permutation, so any step can be had by its number: a run resumes in the middle of
an epoch without an iterator to save, and the same step has the same bytes
whatever the number of threads.
"""

import tensorflow as tf

from csml_tf.augment import view
from csml_tf.errors import InputError

# Where colours, blur and normalisation are done.
AUGMENT_ON = ("host", "device")

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
    source,
    augmentations,
    global_batch_size,
    seed,
    epoch,
    table=None,
    first_step=0,
    augment_on="host",
):
    """The batches of one epoch.

    Args:
        source: `sources.base.ImageSource` of the training images.
        augmentations: {view name: `augment.view.ViewAugmentation`}, drawn anew for every
            view. Names that begin with "neighbor_" are views of a neighbour, all of the
            same one; the others are views of the anchor.
        global_batch_size: anchors per batch.
        seed: int, of the run.
        epoch: int from 0; with the seed it decides the order.
        table: `NeighborTable`; needed where `augmentations` asks for neighbours.
        first_step: of the epoch, from 0; the steps before it are not computed.
        augment_on: "host", or "device" to leave everything after crop and flip to
            whoever takes the batches, by `ViewAugmentation.photometric`.

    Returns:
        `tf.data.Dataset` of {view name: [global_batch_size, size, size, 3] float32,
        normalised}; with "device" of {view name: ([global_batch_size, size, size, 3]
        uint8, [global_batch_size, num_uniforms] float32)}, the arguments of `photometric`.

    Raises:
        InputError: if the batch is larger than the source.
        ValueError: if a neighbour is asked for without a table, or `augment_on` is unknown.
    """
    num_steps = steps_per_epoch(source, global_batch_size)
    if augment_on not in AUGMENT_ON:
        raise ValueError(f"augment_on must be one of {AUGMENT_ON}, got {augment_on!r}.")
    neighbor_names = [name for name in augmentations if name.startswith("neighbor_")]
    anchor_names = [name for name in augmentations if name not in neighbor_names]
    if neighbor_names and table is None:
        raise ValueError(f"Views {tuple(augmentations)} need a neighbour table.")
    num_uniforms = {augmentation.num_uniforms for augmentation in augmentations.values()}.pop()

    def draw(step):
        """Step -> (anchor indices [batch], neighbour indices [batch], uniforms of the views)."""
        indices = epoch_order(
            step * global_batch_size + tf.range(global_batch_size, dtype=tf.int64),
            len(source),
            seed,
            epoch,
        )
        uniforms = tf.random.stateless_uniform(
            [global_batch_size, 1 + len(augmentations) * num_uniforms],
            _fold_in(seed, epoch, _DRAW_STREAM, step),
        )
        neighbors = table.draw(indices, uniforms[:, 0]) if neighbor_names else indices
        shape = [global_batch_size, len(augmentations), num_uniforms]
        return indices, neighbors, tf.reshape(uniforms[:, 1:], shape)

    def cut(index, neighbor, uniforms):
        """One anchor (or a batch of equal-sized ones) -> {view name: (crop, its uniforms)}."""
        uniforms = dict(zip(augmentations, tf.unstack(uniforms, axis=-2)))
        crops = {}
        for origin, names in ((index, anchor_names), (neighbor, neighbor_names)):
            if names:
                chosen = [augmentations[name] for name in names]
                rows = [uniforms[name] for name in names]
                crops.update(zip(names, _read_views(source, origin, chosen, rows)))
        return {name: (crops[name], uniforms[name]) for name in augmentations}

    def color(views):
        return {name: augmentations[name].photometric(*views[name]) for name in augmentations}

    steps = tf.data.Dataset.range(first_step, num_steps)
    on_host = augment_on == "host"
    if source.image_shape is not None:
        # Equal images in memory: a whole batch is read and cut in one go.
        batches = steps.map(lambda step: cut(*draw(step)), num_parallel_calls=tf.data.AUTOTUNE)
        if on_host:
            batches = batches.map(color, num_parallel_calls=tf.data.AUTOTUNE)
    else:
        anchors = steps.map(draw).unbatch().map(cut, num_parallel_calls=tf.data.AUTOTUNE)
        # Colours go by groups that fit into a processor's cache: a fifth less time than by
        # batches of 32, and several under way at once take little memory.
        group_size = _largest_divisor(global_batch_size, 8) if on_host else global_batch_size
        batches = anchors.batch(group_size, drop_remainder=True)
        if on_host:
            batches = batches.map(color, num_parallel_calls=tf.data.AUTOTUNE)
            batches = batches.rebatch(global_batch_size, drop_remainder=True)
    batches = batches.apply(tf.data.experimental.assert_cardinality(num_steps - first_step))
    return batches.prefetch(tf.data.AUTOTUNE)


def _read_views(source, index, augmentations, uniforms):
    """The crops of one image, or of a batch of images of one size."""
    if source.image_shape is None:

        def decode(encoded):
            return view.cut_views(encoded, augmentations, uniforms)

        return source.read_with(index, decode)
    images = source.read(index)
    return [a.geometric(images, rows) for a, rows in zip(augmentations, uniforms)]


def _largest_divisor(number, limit):
    return max(divisor for divisor in range(1, limit + 1) if number % divisor == 0)


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
