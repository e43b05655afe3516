"""Features of a whole image source, in index order."""

import numpy as np
import tensorflow as tf

from csml_tf import progress
from csml_tf.data import parallel

# A graph as the code says it: AutoGraph would search it for control flow, which takes seconds.
_as_it_is = tf.autograph.experimental.do_not_convert


def extract_features(encode, source, center_view, batch_size=256, description="features"):
    """Runs an encoder over every image of a source, without augmentation.

    The replicas of the strategy in scope share each batch; all workers get all features.

    Args:
        encode: function of [batch, size, size, 3] float32 images, as `center_view`
            makes them, that returns [batch, dim], or {name: [batch, dim]} for several
            layers in one pass; a `tf.function`, or it is slow.
        source: `sources.base.ImageSource`.
        center_view: `augment.view.CenterView`.
        batch_size: images per call, over all replicas; without a strategy in scope the
            last call gets the rest.
        description: of the progress bar.

    Returns:
        [len(source), dim] float32 features, or {name: such}; row i belongs to image i.
    """
    strategy = tf.distribute.get_strategy()
    if not tf.distribute.has_strategy():
        # The same for every encoder, and to make it takes as long as hundreds of small images.
        batches = source.keep(
            ("batches in order", center_view, batch_size),
            lambda: _batches(
                source, center_view, tf.range(len(source), dtype=tf.int64), batch_size
            ),
        )
        blocks = (encode(images) for images in batches)
    else:
        blocks = _encode_together(strategy, encode, source, center_view, batch_size)
    features = None
    done = 0
    with progress.bar(len(source), description, unit="images") as advance:
        for block in blocks:
            if features is None:
                features = tf.nest.map_structure(
                    lambda rows: np.empty([len(source), rows.shape[1]], np.float32), block
                )
            count = min(len(tf.nest.flatten(block)[0]), len(source) - done)
            for whole, rows in zip(tf.nest.flatten(features), tf.nest.flatten(block)):
                whole[done : done + count] = rows[:count]
            done += count
            advance(count)
    return features


def extract_readable(encode, source, center_view, batch_size=256, start=0):
    """As `extract_features`, for files of which some may be broken, and more than fit in memory.

    One process only; the replicas of the strategy in scope share each batch.

    Args:
        encode: as for `extract_features`.
        source: `ImageSource` whose `read` fails for a broken file.
        center_view: `augment.center_view.CenterView`.
        batch_size: images per call, over all replicas.
        start: index to begin with.

    Yields:
        ([count] int64 indices, [count, dim] float32 features) in index order; indices of
        broken files are missing.
    """
    strategy = tf.distribute.get_strategy()
    replicas = strategy.num_replicas_in_sync
    dataset = tf.data.Dataset.range(start, len(source)).map(
        lambda index: (index, center_view(source.read(index))), num_parallel_calls=parallel.CALLS
    )
    dataset = dataset.ignore_errors()
    if replicas == 1:
        for indices, images in parallel.prefetch(dataset.batch(batch_size)):
            yield indices.numpy(), encode(images).numpy()
        return
    batch_size = replicas * -(-batch_size // replicas)

    def fill_up(indices, images):
        """The last batch, as large as the others; the index -1 is of no image."""
        missing = batch_size - tf.shape(indices)[0]
        indices = tf.pad(indices, [[0, missing]], constant_values=-1)
        images = tf.pad(images, [[0, missing], [0, 0], [0, 0], [0, 0]])
        return tf.ensure_shape(indices, [batch_size]), tf.ensure_shape(
            images, [batch_size, *images.shape[1:]]
        )

    encode_all = _make_encode_all(strategy, encode)
    dataset = parallel.prefetch(dataset.batch(batch_size).map(fill_up))
    for own_indices, images in strategy.experimental_distribute_dataset(dataset):
        indices = strategy.gather(own_indices, axis=0).numpy()
        found = encode_all(images).numpy()
        yield indices[indices >= 0], found[indices >= 0]


def flatten(images):
    """[batch, ...] -> [batch, n]."""
    return tf.reshape(images, [tf.shape(images)[0], -1])


def _encode_together(strategy, encode, source, center_view, batch_size):
    """Yields the features of equal batches; the last is filled up with the last image."""
    replicas = strategy.num_replicas_in_sync
    replica_batch = -(-min(batch_size, len(source)) // replicas)
    num_batches = -(-len(source) // (replicas * replica_batch))
    indices = tf.range(num_batches * replicas * replica_batch, dtype=tf.int64)
    # [batch, worker, images of the worker's replicas]
    indices = tf.reshape(tf.minimum(indices, len(source) - 1), [num_batches, -1])

    def make_dataset(context):
        workers = context.num_input_pipelines
        own = tf.reshape(indices, [num_batches, workers, -1])[:, context.input_pipeline_id]
        return _batches(source, center_view, tf.reshape(own, [-1]), replica_batch)

    encode_all = _make_encode_all(strategy, encode)
    for images in strategy.distribute_datasets_from_function(make_dataset):
        yield encode_all(images)


def _make_encode_all(strategy, encode):
    """-> function of a batch spread over the replicas to the features of all of it."""

    def encode_own(images):
        # Handed over as it is, a method's `tf.function` would lose what it is bound to.
        return encode(images)

    def encode_all(images):
        encoded = strategy.run(encode_own, args=(images,))
        return tf.nest.map_structure(lambda rows: strategy.gather(rows, axis=0), encoded)

    # Not around the functions of a loaded SavedModel: in a larger graph they look for the
    # variables of their replica where there is no replica.
    if isinstance(encode, tf.types.experimental.GenericFunction):
        return tf.function(encode_all, autograph=False)
    return encode_all


def _batches(source, center_view, indices, batch_size):
    if source.image_shape is not None:
        batches = tf.data.Dataset.from_tensor_slices(indices).batch(batch_size)
        images = batches.map(
            _as_it_is(lambda rows: center_view(source.read(rows))),
            num_parallel_calls=parallel.CALLS,
        )
    else:
        images = tf.data.Dataset.from_tensor_slices(indices)
        images = images.map(
            _as_it_is(lambda index: center_view(source.read(index))),
            num_parallel_calls=parallel.CALLS,
        ).batch(batch_size)
    return parallel.prefetch(images)
