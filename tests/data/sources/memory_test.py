import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from csml_tf.data.sources import memory
from tests.data.sources import image_files


class MemorySourceTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters([[[4, 2, 3]], [[4, 2, 3, 1]]])
    def test_grey_is_repeated(self, shape):
        images = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
        source = memory.MemorySource(images)
        grey = images.reshape(4, 2, 3, 1)
        self.assertAllEqual(source.read(tf.range(4)), np.broadcast_to(grey, [4, 2, 3, 3]))
        self.assertEqual(source.image_shape, (2, 3))

    def test_images_are_no_graph_constants(self):
        source = memory.MemorySource(np.zeros([100, 8, 8, 3], np.uint8))
        graph = tf.function(source.read).get_concrete_function(tf.TensorSpec([], tf.int64)).graph
        self.assertLess(len(graph.as_graph_def().SerializeToString()), 5000)

    def test_rejects_float_images(self):
        with self.assertRaisesRegex(ValueError, "uint8 in 0..255, got float64"):
            memory.MemorySource(np.zeros([1, 2, 3]))

    @parameterized.parameters([[[2, 3]], [[1, 2, 3, 4]], [[1, 1, 2, 3, 3]]])
    def test_rejects_shapes(self, shape):
        with self.assertRaisesRegex(ValueError, "images must be"):
            memory.MemorySource(np.zeros(shape, np.uint8))

    def test_rejects_missing_labels(self):
        with self.assertRaisesRegex(ValueError, r"labels must be \[2\]"):
            memory.MemorySource(np.zeros([2, 3, 3], np.uint8), labels=[1])


class EncodedSourceTest(tf.test.TestCase):
    def test_decodes_files_of_many_sizes(self):
        images = [image_files.noise(0, 5, 7), image_files.noise(1, 9, 2)]
        source = memory.EncodedSource([image_files.encode(image, "PNG") for image in images])
        for i, image in enumerate(images):
            self.assertAllEqual(source.read(i), image)


class LoadDigitsTest(tf.test.TestCase):
    def test_full_range_and_labels(self):
        digits = memory.load_digits()
        pixels = digits.read(tf.range(len(digits))).numpy()
        self.assertEqual(pixels.shape, (1797, 8, 8, 3))
        self.assertEqual((pixels.min(), pixels.max()), (0, 255))
        self.assertAllEqual(np.unique(digits.labels), np.arange(10))
        self.assertEqual(digits.class_names, tuple("0123456789"))


if __name__ == "__main__":
    tf.test.main()
