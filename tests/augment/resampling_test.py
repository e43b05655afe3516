import functools

import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from PIL import Image
from sklearn.datasets import load_sample_image

from csml_tf.augment import resampling


@functools.cache
def photograph(height, width):
    image = Image.fromarray(load_sample_image("china.jpg"))
    return np.asarray(image.resize((width, height)))


def pillow_crop_and_resize(image, window, size, flip=False):
    top, left, height, width = (int(number) for number in window)
    crop = Image.fromarray(image).crop((left, top, left + width, top + height))
    pixels = np.asarray(crop.resize((size, size), Image.BILINEAR))
    return pixels[:, ::-1] if flip else pixels


def loop_resample_matrix(start, length, in_size, out_size):
    """precompute_coeffs of Pillow's Resample.c, on the cropped axis."""
    matrix = np.zeros([out_size, in_size])
    scale = length / out_size
    support = max(scale, 1.0)
    for o in range(out_size):
        center = (o + 0.5) * scale
        first = max(int(center - support + 0.5), 0)
        last = min(int(center + support + 0.5), length)
        for i in range(first, last):
            matrix[o, start + i] = max(0.0, 1.0 - abs((i - center + 0.5) / support))
        matrix[o] /= matrix[o].sum()
    return matrix


class ResampleMatrixTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters((0, 20, 7), (3, 11, 7), (3, 11, 11), (5, 4, 13), (19, 1, 3))
    def test_matches_pillows_loops(self, start, length, out_size):
        actual = resampling.resample_matrix(start, length, 20, out_size)
        expected = loop_resample_matrix(start, length, 20, out_size)
        self.assertAllClose(actual, expected, atol=1e-6)
        self.assertAllClose(tf.reduce_sum(actual, axis=-1), np.ones(out_size))

    def test_flip_reverses_the_output(self):
        starts, lengths = [[1, 2], [3, 4]], [[15, 7], [9, 4]]
        flips = np.array([[True, False], [False, True]])
        plain = resampling.resample_matrix(starts, lengths, 16, 5)
        flipped = resampling.resample_matrix(starts, lengths, 16, 5, flips)
        expected = np.where(flips[..., None, None], plain[..., ::-1, :], plain)
        self.assertAllClose(flipped, expected, atol=1e-6)

    def test_same_size_is_the_identity(self):
        self.assertAllEqual(resampling.resample_matrix(0, 9, 9, 9), np.eye(9))


class CropAndResizeTest(tf.test.TestCase, parameterized.TestCase):
    # Higher and wider than the result, lower, one of each, a line, the very image.
    WINDOWS = ((0, 0, 120, 160), (7, 9, 20, 30), (60, 0, 60, 21), (0, 139, 1, 21), (3, 3, 48, 48))

    def setUp(self):
        super().setUp()
        self.image = photograph(120, 160)

    def assert_same_pixels(self, actual, expected):
        self.assertEqual(actual.dtype, tf.uint8)
        difference = np.abs(actual.numpy().astype(int) - expected)
        self.assertLessEqual(difference.max(), 1)
        self.assertLess(difference.mean(), 0.25)

    @parameterized.product(window=WINDOWS, flip=[None, False, True])
    def test_one_image_matches_pillow(self, window, flip):
        actual = resampling.crop_and_resize(self.image, window, 48, flip)
        self.assert_same_pixels(actual, pillow_crop_and_resize(self.image, window, 48, flip))

    @parameterized.parameters(True, False)
    def test_batch_matches_pillow(self, jit_compile):
        images = np.stack([np.roll(self.image, 13 * shift, axis=1) for shift in range(5)])
        flips = np.array([True, False, True, False, False])
        run = tf.function(
            lambda *args: resampling.crop_and_resize(args[0], args[1], 48, args[2]),
            jit_compile=jit_compile,
        )
        actual = run(images, np.array(self.WINDOWS, np.int32), flips)
        for i in range(5):
            expected = pillow_crop_and_resize(images[i], self.WINDOWS[i], 48, flips[i])
            self.assert_same_pixels(actual[i], expected)

    def test_pipeline_of_photographs_of_any_size(self):
        def crop(image):
            self.assertEqual(image.shape.as_list(), [None, None, 3])
            return resampling.crop_and_resize(image, [1, 2, 10, 12], 8, True)

        spec = tf.TensorSpec([None, None, 3], tf.uint8)
        images = [photograph(20, 30), photograph(40, 15)]
        dataset = tf.data.Dataset.from_generator(lambda: images, output_signature=spec).map(crop)
        self.assertEqual(dataset.element_spec, tf.TensorSpec([8, 8, 3], tf.uint8))
        for image, actual in zip(images, dataset):
            expected = pillow_crop_and_resize(image, [1, 2, 10, 12], 8, flip=True)
            self.assert_same_pixels(actual, expected)

    def test_batch_of_unknown_shape(self):
        run = tf.function(
            lambda images: resampling.crop_and_resize(images, [[1, 2, 10, 12]], 8),
            input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8)],
        )
        expected = pillow_crop_and_resize(self.image, [1, 2, 10, 12], 8)
        self.assert_same_pixels(run(self.image[None])[0], expected)

    def test_rejects_a_grey_image(self):
        with self.assertRaisesRegex(ValueError, "3 or 4 axes, got shape \\(5, 5\\)"):
            resampling.crop_and_resize(tf.zeros([5, 5], tf.uint8), [0, 0, 5, 5], 4)


def loop_cut_crop(image, window, size):
    """A window that begins and ends anywhere; the pixels it touches are all that there is."""
    for axis in (0, 1):
        start, length = window[axis], window[axis + 2]
        shrinkage = length / size
        first, last = int(np.floor(start)), int(np.ceil(start + length))
        rows = []
        for o in range(size):
            center = start + (o + 0.5) * shrinkage
            distances = [abs(i + 0.5 - center) for i in range(first, last)]
            weights = np.maximum(0.0, 1.0 - np.array(distances) / max(1.0, shrinkage))
            rows.append(np.tensordot(weights / weights.sum(), image[first:last], 1))
        image = np.swapaxes(np.stack(rows), 0, 1)
    return image


class CutCropsTest(tf.test.TestCase):
    WINDOWS = ((7, 9, 20, 30), (0, 0, 120, 160), (60, 139, 60, 21), (3, 3, 48, 48))
    SIZES = (48, 32, 48, 20)
    FLIPS = (True, None, False, True)

    def setUp(self):
        super().setUp()
        self.image = photograph(120, 160)

    def test_each_is_the_crop_of_its_window(self):
        crops = resampling.cut_crops(self.image, self.WINDOWS, list(self.SIZES), list(self.FLIPS))
        self.assertLen(crops, 4)
        for crop, *arguments in zip(crops, self.WINDOWS, self.SIZES, self.FLIPS):
            self.assertEqual(crop.dtype, tf.uint8)
            self.assertAllEqual(crop, resampling.crop_and_resize(self.image, *arguments))
            expected = pillow_crop_and_resize(self.image, *arguments).astype(int)
            self.assertAllClose(crop.numpy().astype(int), expected, rtol=0, atol=1)

    def test_windows_within_pixels_match_loops(self):
        windows = ((7.5, 9.25, 20.5, 31.0), (0.0, 0.125, 119.5, 159.875), (3.75, 100.5, 9.5, 4.25))
        sizes = [48, 32, 20]
        crops = resampling.cut_crops(self.image, windows, sizes, [None] * 3)
        for crop, window, size in zip(crops, windows, sizes):
            expected = loop_cut_crop(self.image.astype("float64"), window, size)
            self.assertAllClose(crop.numpy().astype("float64"), expected, rtol=0, atol=0.501)

    def test_what_lies_around_a_window_does_not_matter(self):
        image = np.zeros([120, 160, 3], np.uint8)
        image[7:27, 9:39] = self.image[7:27, 9:39]
        crops = [
            resampling.cut_crops(i, [(7, 9, 20, 30)], [5], [None]) for i in (image, self.image)
        ]
        self.assertAllEqual(*crops)


class ResizeAndCenterCropTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.product(
        sides=[(75, 100), (101, 64), (40, 40), (33, 47)],
        sizes=[(40, 32), (33, 32), (32, 32), (73, 64)],
    )
    def test_matches_torchvision(self, sides, sizes):
        height, width = sides
        resize_size, crop_size = sizes
        image = photograph(height, width)
        short = min(sides)
        new_height, new_width = (int(resize_size * side / short) for side in sides)
        top = round((new_height - crop_size) / 2.0)
        left = round((new_width - crop_size) / 2.0)
        resized = Image.fromarray(image).resize((new_width, new_height), Image.BILINEAR)
        expected = np.asarray(resized)[top : top + crop_size, left : left + crop_size].astype(int)

        one = resampling.resize_and_center_crop(image, resize_size, crop_size)
        batch = resampling.resize_and_center_crop(np.stack([image] * 2), resize_size, crop_size)
        for actual in (one, *batch):
            self.assertEqual(actual.dtype, tf.uint8)
            self.assertAllClose(actual.numpy().astype(int), expected, rtol=0, atol=1)

    def test_shape_is_known_in_a_pipeline(self):
        spec = tf.TensorSpec([None, None, 3], tf.uint8)
        run = tf.function(
            lambda image: resampling.resize_and_center_crop(image, 40, 32), input_signature=[spec]
        )
        self.assertEqual(run.get_concrete_function().output_shapes, [32, 32, 3])

    def test_rejects_a_crop_above_the_image(self):
        with self.assertRaisesRegex(ValueError, "at most resize_size 32, got 40"):
            resampling.resize_and_center_crop(tf.zeros([8, 8, 3], tf.uint8), 32, 40)


if __name__ == "__main__":
    tf.test.main()
