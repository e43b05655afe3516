import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from csml_tf.evaluation import plain_features


class PixelsTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.images = np.random.default_rng(0).uniform(size=[3, 12, 12, 3]).astype("float32")

    @parameterized.parameters(12, 16)
    def test_small_images_stay_what_they_are(self, max_side):
        self.assertAllEqual(
            plain_features.pixels(self.images, max_side), self.images.reshape([3, -1])
        )

    def test_large_images_are_means_of_cells(self):
        cells = self.images.reshape([3, 4, 3, 4, 3, 3]).mean(axis=(2, 4))
        self.assertAllClose(plain_features.pixels(self.images, 4), cells.reshape([3, -1]))


class ColorHistogramTest(tf.test.TestCase):
    def test_matches_loops(self):
        images = np.random.default_rng(0).integers(0, 256, [4, 5, 6, 3]) / np.float32(255)
        images[0, 0, 0] = [0.0, 1.0, 0.125]  # Both ends, and a border, which is of the bin above.
        expected = np.zeros([4, 8, 8, 8])
        for image, counts in zip(images, expected):
            for pixel in image.reshape([-1, 3]):
                r, g, b = (min(int(value * 8), 7) for value in pixel)
                counts[r, g, b] += 1
        expected = np.sqrt(expected.reshape([4, 512]) / 30)
        actual = plain_features.color_histogram(tf.constant(images))
        self.assertAllClose(actual, expected)
        self.assertAllClose(np.linalg.norm(actual, axis=1), np.ones(4))
        in_graph = tf.function(plain_features.color_histogram)(tf.constant(images))
        self.assertAllEqual(in_graph, actual)

    def test_place_does_not_count(self):
        image = np.random.default_rng(1).uniform(size=[1, 6, 6, 3]).astype("float32")
        turned = plain_features.color_histogram(image[:, ::-1].transpose(0, 2, 1, 3))
        self.assertAllEqual(plain_features.color_histogram(image), turned)


if __name__ == "__main__":
    tf.test.main()
