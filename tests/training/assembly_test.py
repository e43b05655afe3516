import functools

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from csml_tf.augment.view import ViewAugmentation
from csml_tf.data.sources import memory
from csml_tf.training import assembly
from tests.training import tiny_run

NUM_IMAGES, BATCH = 48, 8


class BatchesTest(tf.test.TestCase, parameterized.TestCase):
    """By images of one pixel, whose color is their number."""

    def images_of(self, epoch, **options):
        """-> ([steps, batch] images of an epoch, [n, k] neighbors)."""
        pixels = np.arange(NUM_IMAGES, dtype=np.uint8).reshape([-1, 1, 1, 1]).repeat(3, axis=3)
        source = memory.MemorySource(pixels, name="numbers")
        parts = tiny_run.make_parts(
            make_model=functools.partial(tiny_run.make_model, pairs=True, **options),
            augmentation=ViewAugmentation(image_size=1),
            global_batch_size=BATCH,
            augment_on="device",
        )
        assembled = assembly.assemble(parts, source, tf.distribute.get_strategy(), None)
        neighbors = (np.arange(NUM_IMAGES)[:, None] + [7, 11, 19]) % NUM_IMAGES
        assembled.table.assign(neighbors, 0)
        batches = [batch["query"][0][:, 0, 0, 0] for batch in assembled.make_batches(epoch, 0)]
        return np.array(batches, int), neighbors

    @parameterized.parameters(
        {"epoch": 2, "neighbor_warmup_epochs": 3, "cutmix_warmup_epochs": 3},
        {"epoch": 2, "neighbor_warmup_epochs": 3, "query_kinds": ("image", "neighbor")},
    )
    def test_different_images_before_neighbors_are_of_use(self, **options):
        images, _ = self.images_of(**options)
        self.assertAllEqual(np.sort(images.ravel()), np.arange(NUM_IMAGES))

    @parameterized.parameters(
        {"epoch": 3, "neighbor_warmup_epochs": 3, "cutmix_warmup_epochs": 9},  # They count.
        {"epoch": 2, "neighbor_warmup_epochs": 9, "cutmix_warmup_epochs": 2},  # They are mixed.
    )
    def test_neighbors_side_by_side(self, **options):
        images, neighbors = self.images_of(**options)
        self.assertEqual(images.shape, (NUM_IMAGES // BATCH, BATCH))
        for anchor, other in images.reshape([-1, 2]):
            self.assertIn(other, neighbors[anchor])


if __name__ == "__main__":
    tf.test.main()
