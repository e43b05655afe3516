import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from csml_tf.data import labelled_batches, pipeline
from csml_tf.data.sources import memory
from csml_tf.errors import InputError
from tests.data.sources import image_files

NUM_IMAGES, BATCH = 13, 4  # Three steps, and one image left over.
LABELS = np.arange(NUM_IMAGES) * 7 % 5


def numbered(wrap_encoded=False):
    """Images that are 10 times their index everywhere, so that a crop tells which it is."""
    pixels = np.arange(NUM_IMAGES, dtype=np.uint8) * 10
    images = np.tile(pixels[:, None, None, None], [1, 6, 6, 3])
    if wrap_encoded:
        files = [image_files.encode(image, "PNG") for image in images]
        return memory.EncodedSource(files, LABELS)
    return memory.MemorySource(images, LABELS)


def epoch_of(source, augmentation=None, **arguments):
    defaults = {"global_batch_size": BATCH, "seed": 3, "epoch": 0}
    augmentation = augmentation or labelled_batches.make_crop_and_flip(4)
    batches = labelled_batches.make_labelled_epoch(source, augmentation, **defaults | arguments)
    return list(batches.as_numpy_iterator())


def indices_of(images):
    return np.round(images[:, 0, 0, 0] * 255 / 10).astype(int)


class MakeLabelledEpochTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.product(encoded=[False, True], epoch=[0, 5])
    def test_each_image_has_its_label(self, encoded, epoch):
        batches = epoch_of(numbered(encoded), epoch=epoch)
        self.assertLen(batches, 3)
        seen = []
        for images, labels in batches:
            self.assertEqual((images.shape, images.dtype), ((BATCH, 4, 4, 3), np.float32))
            self.assertEqual((labels.shape, labels.dtype), ((BATCH,), np.int64))
            indices = indices_of(images)
            self.assertAllEqual(labels, LABELS[indices])
            seen += list(indices)
        self.assertLen(set(seen), 12)

    def test_another_order_each_epoch_the_same_for_one_seed(self):
        first, again, later = (epoch_of(numbered(), epoch=epoch) for epoch in (0, 0, 1))
        for (images, labels), (same_images, same_labels) in zip(first, again):
            self.assertAllEqual(images, same_images)
            self.assertAllEqual(labels, same_labels)
        orders = [np.concatenate([indices_of(i) for i, _ in e]) for e in (first, later)]
        self.assertNotAllEqual(*orders)

    def test_images_are_those_of_the_pipeline(self):
        rng = np.random.default_rng(0)
        source = memory.MemorySource(rng.integers(0, 256, [13, 6, 6, 3], np.uint8), LABELS)
        augmentation = labelled_batches.make_crop_and_flip(4)
        expected = pipeline.make_epoch(source, {"query": augmentation}, BATCH, seed=3, epoch=2)
        actual = epoch_of(source, augmentation, epoch=2)
        for (images, _), views in zip(actual, expected.as_numpy_iterator()):
            self.assertAllEqual(images, views["query"])
        self.assertBetween(actual[0][0].max(), 0.9, 1.0)  # Not normalised by mean and std.

    def test_parts_and_later_steps(self):
        whole = epoch_of(numbered())
        parts = [epoch_of(numbered(), first_step=1, part=p, num_parts=2) for p in (0, 1)]
        self.assertLen(parts[0], 2)
        for (images, labels), *halves in zip(whole[1:], *parts):
            self.assertAllEqual(images, np.concatenate([half[0] for half in halves]))
            self.assertAllEqual(labels, np.concatenate([half[1] for half in halves]))

    def test_labels_in_place_of_the_own(self):
        for images, labels in epoch_of(numbered(), labels=np.arange(NUM_IMAGES) + 100):
            self.assertAllEqual(labels, indices_of(images) + 100)

    def test_rejects(self):
        with self.assertRaisesRegex(ValueError, r"labels must be \[13\], one an image, got \(2,\)"):
            epoch_of(numbered(), labels=[0, 1])
        with self.assertRaisesRegex(InputError, "A batch of 14 images is larger"):
            epoch_of(numbered(), global_batch_size=14)


class CropAndFlipTest(tf.test.TestCase):
    def test_no_colors(self):
        """Every pixel of a view lies between the darkest and the lightest of its channel."""
        image = np.zeros([8, 8, 3], np.uint8)
        image[..., 0], image[..., 1], image[..., 2] = 200, 100, 50
        augmentation = labelled_batches.make_crop_and_flip(6)
        uniforms = np.random.default_rng(0).uniform(size=[20, augmentation.num_uniforms])
        views = augmentation(np.tile(image, [20, 1, 1, 1]), uniforms.astype("float32"))
        self.assertAllClose(views, np.broadcast_to(image[0, 0] / 255, views.shape), atol=1e-6)

    def test_flips_half_of_the_views(self):
        image = np.tile(np.arange(8, dtype=np.uint8)[None, :, None] * 30, [8, 1, 3])
        uniforms = np.random.default_rng(0).uniform(size=[200, 64])
        for probability, low, high in ((0.5, 0.4, 0.6), (0.0, 0.0, 0.0)):
            augmentation = labelled_batches.make_crop_and_flip(8, (0.5, 1.0), probability)
            numbers = uniforms[:, : augmentation.num_uniforms].astype("float32")
            views = augmentation(np.tile(image, [200, 1, 1, 1]), numbers).numpy()
            flipped = views[:, 0, 0, 0] > views[:, 0, -1, 0]
            self.assertBetween(np.mean(flipped), low, high)


if __name__ == "__main__":
    tf.test.main()
