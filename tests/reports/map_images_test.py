import io

import numpy as np
from absl.testing import absltest
from PIL import Image

from csml_tf.data.sources import folder, memory
from csml_tf.reports import map_images
from csml_tf.reports.trained_features import ImageFeatures
from tests.data.sources import image_files
from tests.reports.nearest_test import make_source
from tests.training import tiny_run


def make_features(source):
    """Features that say the image: its index, and 1."""
    return ImageFeatures(source, np.float32([[i, 1] for i in range(len(source))]))


def gather(num_test, num_train, max_images=100, **options):
    test = make_source(num_test, name="unseen", **options)
    train = make_source(num_train, **options)
    return map_images.gather(make_features(test), make_features(train), max_images, 0)


class GatherTest(absltest.TestCase):
    def test_rows_belong_together(self):
        images = gather(20, 40, max_images=50)
        self.assertLen(images, 50)
        self.assertEqual(images.sets, ["held-out"] * 20 + ["training"] * 30)
        for i in range(50):
            index = int(images.values[i, 0])
            self.assertEqual(images.thumbnails[i, 0, 0].tolist(), [index] * 3)
            self.assertEqual(images.labels[i], index % 10)
            self.assertEqual(images.names[i], f"#{index}")
            self.assertEqual(images.paths[i], f"{'unseen' if i < 20 else 'dots'}[{index}]")
        self.assertEqual(images.describe(3), "3, held-out image #3")
        self.assertLen({*images.names[20:]}, 30)

    def test_take(self):
        images = gather(20, 40).take(np.array([30, 2]))
        self.assertEqual(images.values[:, 0].tolist(), [10, 2])
        self.assertEqual(images.describe(0), "0, training image #10")
        self.assertEqual(images.paths, ["dots[10]", "unseen[2]"])
        self.assertEqual(images.thumbnails[:, 0, 0, 0].tolist(), [10, 2])

    def test_no_room_for_training_images(self):
        self.assertEqual({*gather(20, 40, max_images=20).sets}, {"held-out"})
        self.assertLen(gather(20, 40, max_images=7), 7)

    def test_without_labels(self):
        images = gather(2, 2, labels=False)
        self.assertEqual(images.labels.tolist(), [-1] * 4)
        self.assertEqual(images.describe(0), "held-out image #0")

    def test_files(self):
        directory = tiny_run.make_temp_dir(self.addCleanup)
        image_files.write_pngs(directory, 3)
        features = make_features(folder.FolderSource(directory))
        images = map_images.gather(features, features, 4, 0)
        self.assertEqual(images.names[:3], ["#0 000.png", "#1 001.png", "#2 002.png"])
        self.assertEqual(
            images.paths[:2], [str(directory / name) for name in ("000.png", "001.png")]
        )
        self.assertEqual(images.thumbnails.shape, (4, 64, 64, 3))


class ThumbnailTest(absltest.TestCase):
    def test_size(self):
        for shape, size in (((8, 8), 8), ((28, 28), 32), ((32, 30), 32), ((96, 96), 64)):
            source = memory.MemorySource(np.zeros([1, *shape], np.uint8))
            self.assertEqual(map_images.thumbnail_px(source, 1500), size)

    def test_smaller_of_many(self):
        source = memory.MemorySource(np.zeros([1, 96, 96], np.uint8))
        for count, size in ((1500, 64), (6400, 64), (6401, 56), (20_000, 32), (10**6, 8)):
            self.assertEqual(map_images.thumbnail_px(source, count), size)


class SpriteTest(absltest.TestCase):
    def test_row_by_row(self):
        for count, columns in ((1, 1), (4, 2), (5, 3), (9, 3)):
            thumbnails = np.stack([image_files.noise(i, 8, 8) for i in range(count)])
            sprite = map_images.make_sprite(thumbnails)
            self.assertEqual(sprite.shape, (8 * columns, 8 * columns, 3))
            for i in range(columns**2):
                top, left = 8 * (i // columns), 8 * (i % columns)
                cell = sprite[top : top + 8, left : left + 8]
                np.testing.assert_array_equal(cell, thumbnails[i] if i < count else 255)

    def test_encoding(self):
        small, large = image_files.noise(0, 16, 16), image_files.noise(0, 640, 640)
        content, kind = map_images.encode_small(small)
        self.assertEqual(kind, "image/png")
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(content))), small)
        content, kind = map_images.encode_small(large)
        self.assertEqual(kind, "image/jpeg")
        self.assertEqual(Image.open(io.BytesIO(content)).size, (640, 640))


if __name__ == "__main__":
    absltest.main()
