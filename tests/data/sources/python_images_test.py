import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from csml_tf.data.sources import memory, python_images
from csml_tf.errors import InputError
from tests.augment import image_size_test
from tests.data.sources import image_files


class MakeSourceTest(tf.test.TestCase, parameterized.TestCase):
    def check(self, images, expected, name):
        source = python_images.make_source(images)
        self.assertEqual((len(source), source.name, source.labels), (len(expected), name, None))
        for i, image in enumerate(expected):
            self.assertAllEqual(source.read(tf.constant(i, tf.int64)), image)
        return source

    def test_arrays(self):
        images = np.stack([image_files.noise(i) for i in range(3)])
        name = "3 images in memory"
        for given in (images, tf.constant(images), [*images], tuple(images)):
            source = self.check(given, images, name)
            self.assertEqual(source.image_shape, (12, 10))
        grey = np.repeat(images[..., :1], 3, axis=-1)
        self.check(images[..., 0], grey, name)
        self.check(images[..., :1], grey, name)

    def test_arrays_of_several_sizes(self):
        sizes = ((12, 10, 3), (5, 7, 1), (3, 20, 3))
        images = [image_files.noise(i, *size) for i, size in enumerate(sizes)]
        expected = [image if image.ndim == 3 else image[..., None].repeat(3, 2) for image in images]
        self.check(images, expected, "3 images in memory")

    def test_files(self):
        folder = image_files.make_temp_dir(self.addCleanup)
        image_files.write_pngs(folder, 3)
        paths = [f"{folder}/002.png", f"{folder}/000.png"]
        source = self.check(paths, [image_files.noise(i) for i in (2, 0)], "2 files")
        self.assertEqual(source.paths, paths)

    def test_files_that_are_broken_inside_or_too_large(self):
        folder = image_files.make_temp_dir(self.addCleanup)
        image_files.write_pngs(folder, 1)
        whole = image_files.encode(image_files.noise(0, 40, 30), "JPEG")
        image_files.write(whole[:4] + bytes(600) + whole[604:], folder, "broken.jpg")
        image_files.write(image_size_test.giant_png(), folder, "giant.png")
        for name, message in (
            ("broken.jpg", "1 of 2 files are missing or no whole images: .*broken.jpg; leave"),
            ("giant.png", r"giant.png \(20000 x 20000 px, too large .* size\); leave them out"),
        ):
            with self.assertRaisesRegex(InputError, message):
                python_images.make_source([f"{folder}/000.png", f"{folder}/{name}"])

    def test_a_source(self):
        source = memory.load_digits()
        self.assertIs(python_images.make_source(source), source)

    @parameterized.parameters(
        ([], "got an empty list"),
        (7, "got a int"),
        (np.zeros([2, 8, 8, 3], np.float32), r"must be uint8 .*got float32 \[2, 8, 8, 3\]"),
        (np.zeros([8, 8], np.uint8), r"must be \[n, .*got uint8 \[8, 8\]"),
        (np.zeros([2, 8, 8, 2], np.uint8), r"must be \[n, .*got uint8 \[2, 8, 8, 2\]"),
        (np.zeros([0, 8, 8, 3], np.uint8), r"must be \[n, .*got uint8 \[0, 8, 8, 3\]"),
        ([np.zeros([8, 8], np.uint8), np.zeros([8], np.uint8)], r"must be .*got uint8 \[8\]"),
        ([np.zeros([8, 8]), np.zeros([8, 9])], r"must be uint8 .*got float64 \[8, 8\]"),
        (["no.png", "a.png"], "2 of 2 files are missing or no whole images: no.png, a.png; leave"),
    )
    def test_rejects(self, images, message):
        with self.assertRaisesRegex(InputError, message):
            python_images.make_source(images)


if __name__ == "__main__":
    tf.test.main()
