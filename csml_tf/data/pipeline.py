"""The input of a training step, as a pure function of (seed, epoch, step).

Nothing here keeps state. One draw of uniform numbers per step decides the
neighbors and every augmentation, and the epoch's order is a stateless
permutation, so any step can be had by its number: a run resumes in the middle of
an epoch without an iterator to save, and the same step has the same bytes
whatever the number of threads.
"""

import tensorflow as tf

from csml_tf import choices, draws
from csml_tf.augment import view
from csml_tf.data import parallel
from csml_tf.errors import InputError

# A graph as the code says it: AutoGraph would search it for control flow, which takes seconds.
_as_it_is = tf.autograph.experimental.do_not_convert

# Where colours, blur and normalisation are done.
AUGMENT_ON = choices.AUGMENT_ON

# Of the views that get their colours in one call: eight of 224 px. To start a call takes time, and
# more views take more memory, since several calls are under way.
_COLOR_GROUP_PIXELS = 2**19

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
    part=0,
    num_parts=1,
    pairs=False,
):
    """The batches of one epoch, or one part of every batch.

    However many parts the batches are made in, all parts of a batch one after the other
    are the same anchors with the same draws.

    In pairs a batch holds half as many anchors, each followed by its neighbor as a further
    image, and every image gets all views: [anchor, its neighbor, anchor, its neighbor, ..].
    An epoch still has as many images, not counting which, as the source; two epochs, of
    which the second goes on with the order of the first, draw each image once as an anchor.

    Args:
        source: `sources.base.ImageSource` of the training images.
        augmentations: {view name: `augment.view.ViewAugmentation`}, drawn anew for every
            view. Names that begin with "neighbor_" are views of a neighbor, all of the
            same one; the others are views of the anchor.
        global_batch_size: anchors per batch; images in pairs.
        seed: int, of the run.
        epoch: int from 0, or a scalar tensor; with the seed it decides the order.
        table: `NeighborTable`; needed where `augmentations` asks for neighbors.
        first_step: of the epoch, from 0, or a tensor; the steps before it are not computed.
        augment_on: "host", or "device" to leave everything after crop and flip to
            whoever takes the batches, by `ViewAugmentation.photometric`.
        part: which one of `num_parts`, from 0: the anchors from `part * batch` on of each
            global batch, with batch = global_batch_size / num_parts.
        num_parts: how many devices or hosts share a batch, each making its own part.
        pairs: whether the batches are pairs, see above; no view of `augmentations` is then of
            a neighbor by name.

    Returns:
        `tf.data.Dataset` of {view name: [batch, size, size, 3] float32, normalised}; with
        "device" of {view name: ([batch, size, size, 3] uint8, [batch, num_uniforms]
        float32)}, the arguments of `photometric`.

    Raises:
        InputError: if the batch is larger than the source, or cannot be divided by `num_parts`,
            into whole pairs where it is of pairs.
        ValueError: if a neighbor is asked for without a table, or by name in pairs,
            `augment_on` is unknown, or there is no such part.
    """
    num_steps = steps_per_epoch(source, global_batch_size)
    indivisible = num_parts * (2 if pairs else 1)
    if global_batch_size % indivisible:
        raise InputError(
            f"A batch of {global_batch_size} images cannot be spread evenly over {num_parts} "
            f"replicas or workers{' in pairs' if pairs else ''}: choose a multiple of "
            f"{indivisible} for GLOBAL_BATCH_SIZE."
        )
    if not 0 <= part < num_parts:
        raise ValueError(f"part must be from 0 to {num_parts - 1}, got {part}.")
    if augment_on not in AUGMENT_ON:
        raise ValueError(f"augment_on must be one of {AUGMENT_ON}, got {augment_on!r}.")
    neighbor_names = [name for name in augmentations if name.startswith("neighbor_")]
    anchor_names = [name for name in augmentations if name not in neighbor_names]
    if pairs and neighbor_names:
        raise ValueError(f"In pairs no view is a neighbor's by name, got {neighbor_names}.")
    if (neighbor_names or pairs) and table is None:
        raise ValueError(f"Views {tuple(augmentations)} need a neighbor table.")
    num_uniforms = {augmentation.num_uniforms for augmentation in augmentations.values()}.pop()
    batch_size = global_batch_size // num_parts
    first, stop = part * batch_size, (part + 1) * batch_size

    def draw(step):
        """Step -> (anchor indices [batch], neighbor indices [batch], uniforms of the views)."""
        # For the whole batch, so that an anchor's numbers do not depend on the parts.
        uniforms = tf.random.stateless_uniform(
            [global_batch_size, 1 + len(augmentations) * num_uniforms],
            draws.fold_in([seed, seed], epoch, _DRAW_STREAM, step),
        )[first:stop]
        if pairs:
            # Two epochs share an order: the second begins where the first ends.
            steps_before = tf.cast(epoch % 2, tf.int64) * num_steps + step
            positions = steps_before * (global_batch_size // 2) + tf.range(
                first // 2, stop // 2, dtype=tf.int64
            )
            anchors = epoch_order(positions, len(source), seed, epoch // 2)
            drawn = table.draw(anchors, uniforms[::2, 0])
            indices = neighbors = tf.reshape(tf.stack([anchors, drawn], axis=1), [-1])
        else:
            positions = step * global_batch_size + tf.range(first, stop, dtype=tf.int64)
            indices = epoch_order(positions, len(source), seed, epoch)
            neighbors = table.draw(indices, uniforms[:, 0]) if neighbor_names else indices
        shape = [batch_size, len(augmentations), num_uniforms]
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
        finished = {}
        # Views of one augmentation as one batch: to start its steps takes time, too.
        for augmentation in dict.fromkeys(augmentations.values()):
            names = [name for name in augmentations if augmentations[name] is augmentation]
            arguments = zip(*(views[name] for name in names))
            batch = augmentation.photometric(*(tf.concat(parts, axis=0) for parts in arguments))
            finished.update(zip(names, tf.split(batch, len(names))))
        return finished

    steps = tf.data.Dataset.range(first_step, num_steps)
    on_host = augment_on == "host"
    if source.image_shape is not None:
        # Equal images in memory: a whole batch is read and cut in one go.
        batches = steps.map(
            _as_it_is(lambda step: cut(*draw(step))), num_parallel_calls=parallel.CALLS
        )
        if on_host:
            batches = batches.map(_as_it_is(color), num_parallel_calls=parallel.CALLS)
    else:
        anchors = steps.map(_as_it_is(draw)).unbatch()
        anchors = anchors.map(_as_it_is(cut), num_parallel_calls=parallel.CALLS)
        group_size = _color_group_size(batch_size, augmentations) if on_host else batch_size
        batches = anchors.batch(group_size, drop_remainder=True)
        if on_host:
            batches = batches.map(_as_it_is(color), num_parallel_calls=parallel.CALLS)
            batches = batches.rebatch(batch_size, drop_remainder=True)
    batches = batches.apply(tf.data.experimental.assert_cardinality(num_steps - first_step))
    return parallel.prefetch(batches)


def make_epochs(*arguments, **settings):
    """`make_epoch` for many epochs: its graph is made once, and each epoch only runs it.

    To make it takes as long as some dozen steps of a small network.

    Args:
        *arguments: of `make_epoch`, up to `seed`.
        **settings: of `make_epoch`, after `epoch`, without `first_step`.

    Returns:
        function of (epoch, first_step) to what `make_epoch` returns, bit for bit. Its data sets
        live no longer than itself.

    Raises:
        As `make_epoch`, at the first call.
    """

    # An epoch of 32 bits, as a number in the code is: the draws depend on it.
    @tf.function(
        autograph=False, input_signature=[tf.TensorSpec([], tf.int32), tf.TensorSpec([], tf.int64)]
    )
    def make(epoch, first_step):
        return make_epoch(*arguments, epoch=epoch, first_step=first_step, **settings)

    # What comes out of a graph has lost its options.
    return lambda epoch, first_step: parallel.untuned(make(epoch, first_step))


def _read_views(source, index, augmentations, uniforms):
    """The crops of one image, or of a batch of images of one size."""
    if source.image_shape is None:

        def decode(encoded):
            return view.cut_views(encoded, augmentations, uniforms)

        return source.read_with(index, decode)
    images = source.read(index)
    return [a.geometric(images, rows) for a, rows in zip(augmentations, uniforms)]


def _color_group_size(batch_size, augmentations):
    """How many anchors get their colours at once: a divisor of the batch."""
    anchor_pixels = sum(augmentation.image_size**2 for augmentation in augmentations.values())
    limit = max(1, _COLOR_GROUP_PIXELS // anchor_pixels)
    divisors = (size for size in range(1, batch_size + 1) if batch_size % size == 0)
    return max(size for size in divisors if size <= limit)


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
        seed=draws.fold_in([seed, seed], epoch, _ORDER_STREAM),
        max_index=tf.constant(num_images - 1, tf.int64),
    )
