import math

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from csml_tf.models import adaptive_pooling


def loop_pool(maps, grid_size):
    batch, height, width, channels = maps.shape
    pooled = np.zeros([batch, grid_size, grid_size, channels])
    for i in range(grid_size):
        for j in range(grid_size):
            rows = range(
                math.floor(i * height / grid_size), math.ceil((i + 1) * height / grid_size)
            )
            columns = range(
                math.floor(j * width / grid_size), math.ceil((j + 1) * width / grid_size)
            )
            cell = [maps[:, row, column] for row in rows for column in columns]
            pooled[:, i, j] = np.mean(cell, axis=0)
    return pooled


class AdaptiveAveragePooling2DTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.rng = np.random.default_rng(0)

    @parameterized.product(grid_size=[1, 2, 3, 5, 7], sides=[(6, 6), (7, 5), (1, 4), (14, 14)])
    def test_matches_loops(self, grid_size, sides):
        maps = self.rng.normal(size=[2, *sides, 3]).astype("float32")
        actual = adaptive_pooling.AdaptiveAveragePooling2D(grid_size)(maps)
        self.assertAllClose(actual, loop_pool(maps, grid_size), atol=1e-6)

    def test_grid_that_divides_is_plain_average_pooling(self):
        maps = self.rng.normal(size=[2, 6, 6, 3]).astype("float32")
        expected = tf.nn.avg_pool2d(maps, 2, 2, "VALID")
        actual = adaptive_pooling.AdaptiveAveragePooling2D(3)(maps)
        self.assertAllClose(actual, expected, atol=1e-6)

    def test_one_model_takes_maps_of_many_sizes(self):
        images = tf.keras.Input([None, None, 3])
        layer = adaptive_pooling.AdaptiveAveragePooling2D(2)
        model = tf.keras.Model(images, layer(images))
        for side in (4, 5):
            maps = self.rng.normal(size=[1, side, side, 3]).astype("float32")
            self.assertAllClose(model(maps), loop_pool(maps, 2), atol=1e-6)

    def test_config(self):
        layer = adaptive_pooling.AdaptiveAveragePooling2D(4)
        copy = adaptive_pooling.AdaptiveAveragePooling2D.from_config(layer.get_config())
        self.assertEqual(copy.grid_size, 4)

    def test_rejects(self):
        with self.assertRaisesRegex(ValueError, "at least 1, got 0"):
            adaptive_pooling.AdaptiveAveragePooling2D(0)


if __name__ == "__main__":
    tf.test.main()
