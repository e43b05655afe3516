"""Features of random crops of a source's images, pass after pass."""

import numpy as np
import tensorflow as tf

from csml_tf.data import labelled_batches, parallel

# For a protocol card.
VIEW = "random resized crop 0.08..1, flip 0.5"


class CropFeatures:
    """Encodes one crop of every image in each pass, in a random order.

    The replicas of the strategy in scope share each batch; all get the features of all of it.

    Args:
        encode: function of [batch, size, size, 3] images in [0, 1] to [batch, dim], or to
            {layer: such}.
        source: `sources.base.ImageSource`.
        image_size: height and width of a crop, pixels.
        batch_size: images per batch, over all replicas; fewer where the source has fewer.
        seed: int; with the number of the pass it decides order and crops.

    Attributes:
        batch_size: as it can be had of this source, on these replicas.
        num_images: of a pass; those that fill no batch wait for another pass's order.
    """

    def __init__(self, encode, source, image_size, batch_size, seed):
        self._strategy = strategy = tf.distribute.get_strategy()
        replicas = strategy.num_replicas_in_sync
        self._source = source
        self._augmentation = labelled_batches.make_crop_and_flip(image_size)
        self._seed = seed
        self.batch_size = max(min(batch_size, len(source)) // replicas, 1) * replicas
        self.num_images = len(source) // self.batch_size * self.batch_size

        @tf.function(autograph=False)
        def encode_all(images, indices):
            made = strategy.run(encode, args=(images,))
            if replicas == 1:
                return made, indices
            return tf.nest.map_structure(
                lambda parts: strategy.gather(parts, axis=0), (made, indices)
            )

        self._encode_all = encode_all

    def read(self, number):
        """One pass: yields (what `encode` makes, [batch] int64 indices of the images)."""
        for images, indices in self._make_batches(number):
            yield self._encode_all(images, indices)

    def _make_batches(self, number):
        """(images, their indices), each replica's part for itself."""
        replicas = self._strategy.num_replicas_in_sync

        def make_own(context):
            dataset = labelled_batches.make_labelled_epoch(
                *(self._source, self._augmentation, self.batch_size, self._seed, number),
                labels=np.arange(len(self._source)),
                part=context.input_pipeline_id,
                num_parts=context.num_input_pipelines,
            )
            if replicas == context.num_input_pipelines:
                return dataset
            return parallel.prefetch(dataset.rebatch(self.batch_size // replicas))

        if replicas == 1:
            return make_own(tf.distribute.InputContext())
        return self._strategy.distribute_datasets_from_function(make_own)
