import io
import math

import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from PIL import Image
from sklearn.datasets import load_sample_image

from csml_tf.augment import geometric


def photograph(height, width):
    image = Image.fromarray(load_sample_image("china.jpg"))
    return np.asarray(image.resize((width, height)))


def encode(image, file_format, **options):
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def pillow_crop_and_resize(image, window, size, flip=False):
    top, left, height, width = (int(number) for number in window)
    crop = Image.fromarray(image).crop((left, top, left + width, top + height))
    pixels = np.asarray(crop.resize((size, size), Image.BILINEAR))
    return pixels[:, ::-1] if flip else pixels


def loop_crop_window(height, width, uniforms, scale, ratio):
    """RandomResizedCrop.get_params of torchvision, its draws replaced by columns."""
    for attempt in range(10):
        share = scale[0] + (scale[1] - scale[0]) * uniforms[attempt]
        log_ratio = np.log(ratio[0]) + np.log(ratio[1] / ratio[0]) * uniforms[10 + attempt]
        area, aspect = height * width * share, math.exp(log_ratio)
        w = round(math.sqrt(area * aspect))
        h = round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            top = math.floor(uniforms[20] * (height - h + 1))
            left = math.floor(uniforms[21] * (width - w + 1))
            return top, left, h, w
    if width / height < ratio[0]:
        w, h = width, round(width / ratio[0])
    elif width / height > ratio[1]:
        w, h = round(height * ratio[1]), height
    else:
        w, h = width, height
    return (height - h) // 2, (width - w) // 2, h, w


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


class DecodeImageTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.image = Image.fromarray(photograph(61, 83))

    @parameterized.parameters(
        ("RGB", "JPEG", {}),
        ("RGB", "JPEG", {"progressive": True, "subsampling": 0}),
        ("L", "JPEG", {}),
        ("CMYK", "JPEG", {}),
        ("RGB", "PNG", {}),
        ("L", "PNG", {}),
        ("LA", "PNG", {}),
        ("P", "PNG", {}),
        ("1", "PNG", {}),
        ("P", "GIF", {}),
        ("L", "GIF", {}),
        ("RGB", "BMP", {}),
        ("L", "BMP", {}),
        ("P", "BMP", {}),
        ("RGBA", "BMP", {}),
    )
    def test_is_pillows_image(self, mode, file_format, options):
        encoded = encode(self.image.convert(mode), file_format, **options)
        expected = np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))
        self.assertAllEqual(geometric.decode_image(encoded), expected)

    def test_drops_alpha(self):
        alpha = np.random.default_rng(0).integers(0, 256, [61, 83, 1], dtype=np.uint8)
        pixels = np.concatenate([np.asarray(self.image), alpha], axis=-1)
        encoded = encode(Image.fromarray(pixels), "PNG")
        self.assertAllEqual(geometric.decode_image(encoded), self.image)

    @parameterized.parameters(1, 3, 4)
    def test_16_bit_png_keeps_the_upper_8(self, channels):
        rng = np.random.default_rng(0)
        pixels = rng.integers(0, 65536, [9, 7, channels]).astype(np.uint16)
        decoded = geometric.decode_image(tf.io.encode_png(pixels))
        expected = np.broadcast_to((pixels >> 8)[..., :3], [9, 7, 3])
        self.assertAllEqual(decoded, expected)

    def test_animation_gives_its_first_frame(self):
        frames = [self.image.rotate(angle).convert("P") for angle in (0, 90, 180)]
        encoded = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
        self.assertAllEqual(geometric.decode_image(encoded), frames[0].convert("RGB"))

    def test_shape_and_type_are_known_in_a_pipeline(self):
        files = [encode(self.image, name) for name in ("JPEG", "PNG", "GIF", "BMP")]
        dataset = tf.data.Dataset.from_tensor_slices(files).map(geometric.decode_image)
        self.assertEqual(dataset.element_spec, tf.TensorSpec([None, None, 3], tf.uint8))
        self.assertLen(list(dataset), 4)

    @parameterized.parameters(b"", b"no image", b"BM", b"BM" + 40 * b"\0", b"\xff\xd8\xff")
    def test_broken_bytes_are_an_error(self, encoded):
        with self.assertRaises(tf.errors.InvalidArgumentError):
            geometric.decode_image(encoded)


class RandomResizedCropWindowsTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.product(
        sides=[(375, 500), (32, 32), (40, 400), (400, 40), (1, 1)],
        limits=[((0.2, 1.0), (3 / 4, 4 / 3)), ((0.9, 1.0), (1.3, 1.4)), ((0.05, 0.1), (0.5, 2.0))],
    )
    def test_matches_torchvision(self, sides, limits):
        rng = np.random.default_rng(0)
        uniforms = rng.uniform(size=[500, geometric.NUM_CROP_UNIFORMS]).astype("float32")
        actual = geometric.random_resized_crop_windows(*sides, uniforms, *limits).numpy()
        expected = np.array([loop_crop_window(*sides, row, *limits) for row in uniforms])
        # float32 may round another way; a window that then differs does so by a pixel.
        self.assertGreater(np.mean(np.all(actual == expected, axis=1)), 0.99)
        self.assertAllClose(actual, expected, atol=1)

    def test_windows_lie_inside_at_the_ends_of_the_uniforms(self):
        ends = [0.0, 1.0 - 2.0**-24]
        uniforms = np.array(np.meshgrid(*[ends] * 4), np.float32).reshape([4, -1]).T
        uniforms = np.repeat(uniforms, [10, 10, 1, 1], axis=1)
        windows = geometric.random_resized_crop_windows(375, 500, uniforms).numpy()
        self.assertAllGreaterEqual(windows, 0)
        self.assertAllLessEqual(windows[:, 0] + windows[:, 2], 375)
        self.assertAllLessEqual(windows[:, 1] + windows[:, 3], 500)

    def test_leading_axes(self):
        rng = np.random.default_rng(0)
        uniforms = rng.uniform(size=[3, 2, geometric.NUM_CROP_UNIFORMS]).astype("float32")
        heights, widths = np.array([[30], [40], [50]]), np.array([[50], [20], [50]])
        actual = geometric.random_resized_crop_windows(heights, widths, uniforms)
        for i, j in np.ndindex(3, 2):
            one = geometric.random_resized_crop_windows(heights[i, 0], widths[i, 0], uniforms[i, j])
            self.assertAllEqual(actual[i, j], one)

    def test_rejects_too_few_uniforms(self):
        with self.assertRaisesRegex(ValueError, "22 columns, got 4"):
            geometric.random_resized_crop_windows(8, 8, tf.zeros([4]))


class ResampleMatrixTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters((0, 20, 7), (3, 11, 7), (3, 11, 11), (5, 4, 13), (19, 1, 3))
    def test_matches_pillows_loops(self, start, length, out_size):
        actual = geometric.resample_matrix(start, length, 20, out_size)
        expected = loop_resample_matrix(start, length, 20, out_size)
        self.assertAllClose(actual, expected, atol=1e-6)
        self.assertAllClose(tf.reduce_sum(actual, axis=-1), np.ones(out_size))

    def test_flip_reverses_the_output(self):
        starts, lengths = [[1, 2], [3, 4]], [[15, 7], [9, 4]]
        flips = np.array([[True, False], [False, True]])
        plain = geometric.resample_matrix(starts, lengths, 16, 5)
        flipped = geometric.resample_matrix(starts, lengths, 16, 5, flips)
        expected = np.where(flips[..., None, None], plain[..., ::-1, :], plain)
        self.assertAllClose(flipped, expected, atol=1e-6)

    def test_same_size_is_the_identity(self):
        self.assertAllEqual(geometric.resample_matrix(0, 9, 9, 9), np.eye(9))


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
        actual = geometric.crop_and_resize(self.image, window, 48, flip)
        self.assert_same_pixels(actual, pillow_crop_and_resize(self.image, window, 48, flip))

    @parameterized.parameters(True, False)
    def test_batch_matches_pillow(self, jit_compile):
        images = np.stack([np.roll(self.image, 13 * shift, axis=1) for shift in range(5)])
        flips = np.array([True, False, True, False, False])
        run = tf.function(
            lambda *args: geometric.crop_and_resize(args[0], args[1], 48, args[2]),
            jit_compile=jit_compile,
        )
        actual = run(images, np.array(self.WINDOWS, np.int32), flips)
        for i in range(5):
            expected = pillow_crop_and_resize(images[i], self.WINDOWS[i], 48, flips[i])
            self.assert_same_pixels(actual[i], expected)

    def test_pipeline_of_photographs_of_any_size(self):
        def crop(image):
            self.assertEqual(image.shape.as_list(), [None, None, 3])
            return geometric.crop_and_resize(image, [1, 2, 10, 12], 8, True)

        spec = tf.TensorSpec([None, None, 3], tf.uint8)
        images = [photograph(20, 30), photograph(40, 15)]
        dataset = tf.data.Dataset.from_generator(lambda: images, output_signature=spec).map(crop)
        self.assertEqual(dataset.element_spec, tf.TensorSpec([8, 8, 3], tf.uint8))
        for image, actual in zip(images, dataset):
            expected = pillow_crop_and_resize(image, [1, 2, 10, 12], 8, flip=True)
            self.assert_same_pixels(actual, expected)

    def test_batch_of_unknown_shape(self):
        run = tf.function(
            lambda images: geometric.crop_and_resize(images, [[1, 2, 10, 12]], 8),
            input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8)],
        )
        expected = pillow_crop_and_resize(self.image, [1, 2, 10, 12], 8)
        self.assert_same_pixels(run(self.image[None])[0], expected)

    def test_rejects_a_grey_image(self):
        with self.assertRaisesRegex(ValueError, "3 or 4 axes, got shape \\(5, 5\\)"):
            geometric.crop_and_resize(tf.zeros([5, 5], tf.uint8), [0, 0, 5, 5], 4)


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

        one = geometric.resize_and_center_crop(image, resize_size, crop_size)
        batch = geometric.resize_and_center_crop(np.stack([image] * 2), resize_size, crop_size)
        for actual in (one, *batch):
            self.assertEqual(actual.dtype, tf.uint8)
            self.assertAllClose(actual.numpy().astype(int), expected, rtol=0, atol=1)

    def test_shape_is_known_in_a_pipeline(self):
        spec = tf.TensorSpec([None, None, 3], tf.uint8)
        run = tf.function(
            lambda image: geometric.resize_and_center_crop(image, 40, 32), input_signature=[spec]
        )
        self.assertEqual(run.get_concrete_function().output_shapes, [32, 32, 3])

    def test_rejects_a_crop_above_the_image(self):
        with self.assertRaisesRegex(ValueError, "at most resize_size 32, got 40"):
            geometric.resize_and_center_crop(tf.zeros([8, 8, 3], tf.uint8), 32, 40)


if __name__ == "__main__":
    tf.test.main()
