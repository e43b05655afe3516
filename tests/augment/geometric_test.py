import functools
import io
import itertools
import math
from unittest import mock

import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from PIL import Image
from sklearn.datasets import load_sample_image

from csml_tf.augment import geometric, resampling


@functools.cache
def photograph(height, width):
    image = Image.fromarray(load_sample_image("china.jpg"))
    return image.resize((width, height))


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


class DecodeImageTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.image = photograph(61, 83)

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

    @parameterized.parameters(1, 3, 16)
    def test_a_window_does_not_depend_on_the_batch(self, part_size):
        """In images so large that the last bit of a ratio shows, at late attempts too."""
        rng = np.random.default_rng(0)
        uniforms = rng.uniform(size=[240, geometric.NUM_CROP_UNIFORMS]).astype("float32")

        def windows(rows):
            return geometric.random_resized_crop_windows(2**24, 2**24, rows, scale=(0.9, 1.0))

        parts = [windows(rows) for rows in np.split(uniforms, 240 // part_size)]
        self.assertAllEqual(tf.concat(parts, axis=0), windows(uniforms))

    def test_rejects_too_few_uniforms(self):
        with self.assertRaisesRegex(ValueError, "22 columns, got 4"):
            geometric.random_resized_crop_windows(8, 8, tf.zeros([4]))


JPEG_KINDS = {
    "4:2:0": ("RGB", {"subsampling": "4:2:0"}),
    "4:2:2": ("RGB", {"subsampling": "4:2:2"}),
    "4:4:4": ("RGB", {"subsampling": "4:4:4"}),
    "grey": ("L", {}),
    "cmyk": ("CMYK", {}),
    "progressive": ("RGB", {"progressive": True}),
    "progressive 4:4:4": ("RGB", {"progressive": True, "subsampling": "4:4:4"}),
    "restart markers": ("RGB", {"restart_marker_blocks": 3}),
}


@functools.cache
def make_decoder(sizes, is_flippable):
    """Tracing takes longer than the test, so that all tests share what they can."""

    def decode(encoded, windows, flips):
        flips = [flip if used else None for flip, used in zip(tf.unstack(flips), is_flippable)]
        return geometric.decode_crops(encoded, lambda height, width: windows, sizes, flips)

    count = len(sizes)
    signature = [
        tf.TensorSpec([], tf.string),
        tf.TensorSpec([count, 4], tf.int32),
        tf.TensorSpec([count], tf.bool),
    ]
    return tf.function(decode, input_signature=signature)


def decode_crops(encoded, windows, sizes, flips=None):
    """`geometric.decode_crops` as a pipeline runs it, a graph for all images."""
    flips = flips or [None] * len(sizes)
    is_flippable = tuple(flip is not None for flip in flips)
    run = make_decoder(tuple(sizes), is_flippable)
    return run(encoded, windows, [bool(flip) for flip in flips])


@functools.cache
def make_cutter(sizes):
    def cut(image, windows, flips):
        return resampling.cut_crops(image, windows, sizes, tf.unstack(flips))

    signature = [
        tf.TensorSpec([None, None, 3], tf.uint8),
        tf.TensorSpec([len(sizes), 4], tf.float32),
        tf.TensorSpec([len(sizes)], tf.bool),
    ]
    return tf.function(cut, input_signature=signature)


def cut_crops(image, windows, sizes, flips=None):
    """`resampling.cut_crops`, from a graph, which is quicker than one operation at a time."""
    flips = [bool(flip) for flip in flips or [None] * len(sizes)]
    return make_cutter(tuple(sizes))(image, np.float32(windows), flips)


def smallest_window_px(reduction, size):
    """That is decoded at 1 / reduction for a crop of this size."""
    return math.ceil(geometric._MIN_SHRINKAGE * reduction * size)


def pillow_crop(encoded, window, size):
    top, left, height, width = window
    image = Image.open(io.BytesIO(encoded)).convert("RGB")
    crop = image.crop((left, top, left + width, top + height))
    return np.asarray(crop.resize((size, size), Image.BILINEAR)).astype(int)


def waves(height, width, period_px):
    """Smooth in all directions, and nowhere without a slope in some channel."""
    rows, columns = np.mgrid[:height, :width] * (2 * np.pi / period_px)
    phases = np.stack([columns + 0.3 * rows, rows - 0.2 * columns, 0.7 * (columns - rows)], -1)
    return Image.fromarray(np.round(127.5 + 110 * np.sin(phases)).astype(np.uint8))


class DecodeCropsTest(tf.test.TestCase, parameterized.TestCase):
    # At most 1.8 times the size of their crop: nothing is decoded smaller.
    ONE_WINDOW = (
        (0, 0, 150, 203),
        (0, 0, 40, 50),
        (0, 153, 40, 50),
        (110, 0, 40, 50),
        (110, 153, 40, 50),
        (37, 41, 53, 29),
        (16, 32, 16, 16),
        (15, 31, 17, 18),
        (31, 63, 2, 3),
        (0, 0, 1, 1),
        (149, 202, 1, 1),
        (75, 100, 1, 1),
        (149, 0, 1, 203),
        (0, 202, 150, 1),
    )
    THREE_WINDOWS = (
        ((0, 0, 40, 50), (110, 153, 40, 50), (60, 60, 1, 1)),
        ((37, 41, 53, 29), (45, 50, 20, 20), (30, 45, 5, 5)),
        ((0, 0, 150, 203), (17, 33, 4, 4), (9, 99, 66, 44)),
        ((100, 90, 50, 60), (100, 90, 50, 60), (149, 149, 1, 1)),
    )

    def assert_same_as_whole_image(self, encoded, windows, sizes, flips=None):
        actual = decode_crops(encoded, windows, sizes, flips)
        expected = cut_crops(geometric.decode_image(encoded), windows, sizes, flips)
        self.assertLen(actual, len(sizes))
        for crop, same, size in zip(actual, expected, sizes):
            self.assertEqual((crop.shape, crop.dtype), ([size, size, 3], tf.uint8))
            self.assertAllEqual(crop, same)

    @parameterized.parameters(*JPEG_KINDS)
    def test_one_window_of_a_jpeg_is_that_of_the_whole_image(self, kind):
        mode, options = JPEG_KINDS[kind]
        encoded = encode(photograph(150, 203).convert(mode), "JPEG", **options)
        for window in self.ONE_WINDOW:
            self.assert_same_as_whole_image(encoded, [window], [112])

    @parameterized.parameters(*JPEG_KINDS)
    def test_several_windows_of_a_jpeg_are_those_of_the_whole_image(self, kind):
        mode, options = JPEG_KINDS[kind]
        encoded = encode(photograph(150, 203).convert(mode), "JPEG", **options)
        for windows in self.THREE_WINDOWS:
            for flip in (False, True):
                flips = [flip, None, not flip]
                self.assert_same_as_whole_image(encoded, windows, [112, 48, 112], flips)

    @parameterized.product(
        kind=["4:2:0", "4:4:4", "grey", "progressive"],
        sides=[(1, 1), (7, 9), (16, 16), (17, 33), (9, 160)],
    )
    def test_jpegs_of_odd_sizes(self, kind, sides):
        mode, options = JPEG_KINDS[kind]
        height, width = sides
        encoded = encode(photograph(*sides).convert(mode), "JPEG", **options)
        for window in ((0, 0, *sides), (height - 1, width - 1, 1, 1), (0, width // 2, 1, 1)):
            self.assert_same_as_whole_image(encoded, [window], [112])

    @parameterized.parameters(*JPEG_KINDS)
    def test_jpegs_match_pillow(self, kind):
        mode, options = JPEG_KINDS[kind]
        encoded = encode(photograph(150, 203).convert(mode), "JPEG", **options)
        for window in self.ONE_WINDOW[:6]:
            actual = decode_crops(encoded, [window], [112])[0].numpy().astype(int)
            self.assertAllClose(actual, pillow_crop(encoded, window, 112), rtol=0, atol=1)

    def test_windows_are_asked_for_once_the_size_is_known(self):
        def make_windows(height, width):
            return tf.stack([[height - 40, width - 50, 40, 50]])

        for file_format in ("JPEG", "PNG"):
            encoded = encode(photograph(150, 203), file_format)
            actual = geometric.decode_crops(encoded, make_windows, [112], [None])
            expected = cut_crops(geometric.decode_image(encoded), [[110, 153, 40, 50]], [112])
            self.assertAllEqual(actual, expected)

    @parameterized.parameters(
        ("RGB", "PNG"), ("LA", "PNG"), ("P", "PNG"), ("P", "GIF"), ("RGB", "BMP"), ("P", "BMP")
    )
    def test_other_formats_are_decoded_whole(self, mode, file_format):
        encoded = encode(photograph(150, 203).convert(mode), file_format)
        for windows in self.THREE_WINDOWS:
            self.assert_same_as_whole_image(encoded, windows, [112, 48, 112], [True, None, False])
        self.assert_same_as_whole_image(encoded, [self.ONE_WINDOW[0]], [20])

    def test_16_bit_png(self):
        pixels = np.random.default_rng(0).integers(0, 65536, [150, 203, 3]).astype(np.uint16)
        encoded = tf.io.encode_png(pixels)
        for window in self.ONE_WINDOW:
            self.assert_same_as_whole_image(encoded, [window], [112])

    def test_what_no_window_shows_need_not_be_there(self):
        whole = encode(photograph(150, 203), "JPEG")
        window = (5, 7, 40, 50)
        actual = decode_crops(whole[: len(whole) // 2], [window], [112])
        self.assertAllEqual(actual, decode_crops(whole, [window], [112]))

    @parameterized.product(part=["none", "mark", "header", "half", "no end"], size=[112, 20])
    def test_a_truncated_jpeg_is_an_error(self, part, size):
        for options in ({}, {"progressive": True}):
            whole = encode(photograph(150, 203), "JPEG", **options)
            lengths = {"none": 0, "mark": 3, "header": 200, "half": len(whole) // 2, "no end": -2}
            with self.assertRaises(tf.errors.InvalidArgumentError):
                decode_crops(whole[: lengths[part]], [self.ONE_WINDOW[0]], [size])

    @parameterized.parameters(b"no image", b"BM" + 40 * b"\0", b"\xff\xd8\xff" + 400 * b"\0")
    def test_broken_bytes_are_an_error(self, encoded):
        with self.assertRaises(tf.errors.InvalidArgumentError):
            decode_crops(encoded, [(0, 0, 1, 1)], [112])

    def test_a_damaged_header_is_an_error(self):
        whole = encode(photograph(150, 203), "JPEG")
        with self.assertRaises(tf.errors.InvalidArgumentError):
            decode_crops(whole[:4] + bytes(500) + whole[504:], [self.ONE_WINDOW[0]], [112])

    def test_shapes_and_types_are_known_in_a_pipeline(self):
        def make_windows(height, width):
            return tf.stack([[0, 0, height, width], [1, 2, 3, 4]])

        def decode(encoded):
            return geometric.decode_crops(encoded, make_windows, [8, 4], [None, True])

        files = [encode(photograph(20, 30), name) for name in ("JPEG", "PNG", "GIF", "BMP")]
        dataset = tf.data.Dataset.from_tensor_slices(files).map(decode)
        expected = [tf.TensorSpec([size, size, 3], tf.uint8) for size in (8, 4)]
        self.assertEqual(list(dataset.element_spec), expected)
        self.assertLen(list(dataset), 4)


class ReductionTest(tf.test.TestCase, parameterized.TestCase):
    """Decoding at 1/2, 1/4 and 1/8; whatever shrinkage is left to the resampling."""

    @parameterized.parameters(1.0, 1.5, 2.0, 3.0)
    def test_takes_the_largest_that_every_window_allows(self, min_shrinkage):
        rng = np.random.default_rng(0)
        with mock.patch.object(geometric, "_MIN_SHRINKAGE", min_shrinkage):
            for count in (1, 2, 3) * 30:
                sizes = rng.integers(1, 60, count).tolist()
                # Just enough for one of them, or a pixel more or less.
                sides = np.ceil(min_shrinkage * rng.choice([1, 2, 4, 8, 16]) * np.array(sizes))
                sides = np.maximum(sides[:, None] + rng.integers(-1, 2, [count, 2]), 1).astype(int)
                windows = np.concatenate([rng.integers(0, 9, [count, 2]), sides], axis=1)
                is_allowed = [
                    np.all(sides.min(axis=1) / sizes >= min_shrinkage * reduction)
                    for reduction in (2, 4, 8)
                ]
                choice = geometric._choose_reduction(tf.constant(windows), sizes)
                self.assertEqual(choice, sum(is_allowed), f"{sizes} {windows}")

    @parameterized.product(reduction=[2, 4, 8], kind=["4:2:0", "4:4:4", "grey", "progressive"])
    def test_crops_are_those_of_the_whole_reduced_image(self, reduction, kind):
        mode, options = JPEG_KINDS[kind]
        size = 20
        side = smallest_window_px(reduction, size)
        image = photograph(side + 29, side + 43).convert(mode)
        encoded = encode(image, "JPEG", **options)

        def assert_reduced_by(expected_reduction, windows, sizes):
            flips = [None, True][: len(sizes)]
            actual = decode_crops(encoded, windows, sizes, flips)
            reduced = tf.io.decode_jpeg(
                encoded, channels=3, ratio=expected_reduction, dct_method="INTEGER_ACCURATE"
            )
            windows = np.float32(windows) / expected_reduction
            expected = cut_crops(reduced, windows, sizes, flips)
            for crop, same in zip(actual, expected):
                self.assertAllEqual(crop, same)

        for place in ((0, 0), (29, 43), (13, 22)):
            assert_reduced_by(reduction, [(*place, side, side)], [size])
        assert_reduced_by(reduction, [(0, 0, side + 29, side + 43)], [size])
        assert_reduced_by(reduction // 2, [(3, 5, side - 1, side)], [size])
        assert_reduced_by(reduction // 2, [(3, 5, side, side - 1)], [size])
        small = smallest_window_px(reduction, size // 2)
        assert_reduced_by(reduction, [(3, 5, side, side), (1, 2, small, small)], [size, size // 2])
        # The crop that needs most decides for all.
        pair = [(3, 5, side, side), (1, 2, small, small - 1)]
        assert_reduced_by(reduction // 2, pair, [size, size // 2])

    @parameterized.product(reduction=[1, 2, 4, 8], subsampling=["4:2:0", "4:4:4"])
    def test_nothing_moves(self, reduction, subsampling):
        """A smooth image is Pillow's, and at the very same place."""
        size = 20
        side = smallest_window_px(reduction, size)
        # Of slopes up to 110 * 2 * pi / 160 levels in a pixel of the reduced image.
        image = waves(side + 29, side + 43, period_px=160 * reduction)
        encoded = encode(image, "JPEG", quality=98, subsampling=subsampling)
        shifts = []
        for top, left, more in ((0, 0, 0), (29, 43, 0), (13, 22, 5), (3, 1, 16), (7, 17, 11)):
            window = (top, left, side + more, side + more // 2)
            actual = decode_crops(encoded, [window], [size])[0].numpy().astype(int)
            expected = pillow_crop(encoded, window, size)
            difference = np.float64(actual - expected)
            self.assertLessEqual(np.abs(difference).max(), 2)
            slopes = np.stack([slope.ravel() for slope in np.gradient(expected, axis=(0, 1))], -1)
            shift = np.linalg.lstsq(slopes, difference.ravel(), rcond=None)[0]
            shifts.append(shift * side / size / reduction)
        self.assertAllClose(np.mean(shifts, axis=0), [0.0, 0.0], atol=0.1)  # Reduced pixels.

    @parameterized.parameters(2, 4, 8)
    def test_photographs_are_nearly_pillows(self, reduction):
        """What differs is the sharpness of edges: twice as much at a `_MIN_SHRINKAGE` of 1."""
        size = min(20, int(420 / geometric._MIN_SHRINKAGE / reduction))
        side = smallest_window_px(reduction, size)
        differences = []
        for name in ("china.jpg", "flower.jpg"):
            encoded = encode(Image.fromarray(load_sample_image(name)), "JPEG", quality=90)
            for top, left in itertools.product(
                (0, (427 - side) // 2, 427 - side), (0, 317, 639 - side)
            ):
                window = (top, min(left, 640 - side), side, side)
                actual = decode_crops(encoded, [window], [size])[0].numpy().astype(int)
                differences.append(np.abs(actual - pillow_crop(encoded, window, size)))
        differences = np.stack(differences)
        self.assertLess(differences.mean(), 1.25)
        self.assertLess(np.percentile(differences, 95), 7.0)


if __name__ == "__main__":
    tf.test.main()
