import functools
import itertools
import math

import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from sklearn.datasets import load_sample_image

from csml_tf.augment import photometric
from tests.augment import loop_colors


@functools.cache
def photograph(height, width):
    image = Image.fromarray(load_sample_image("flower.jpg"))
    return np.asarray(image.resize((width, height)))


def to_planes(images):
    return [tf.constant(images[..., channel], tf.float32) for channel in range(3)]


def to_images(planes):
    return np.stack([plane.numpy() for plane in planes], axis=-1)


def floats(*numbers):
    return tf.constant(numbers, tf.float32)


OPERATIONS = {
    "brightness": photometric.adjust_brightness,
    "contrast": photometric.adjust_contrast,
    "saturation": photometric.adjust_saturation,
    "hue": photometric.adjust_hue,
}


class AdjustTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        photo = photograph(24, 31)
        black, white, red = np.zeros([24, 31, 3]), np.ones([24, 31, 3]), np.zeros([24, 31, 3])
        red[:, 9:, 0] = 1.0
        noise = np.random.default_rng(0).uniform(size=[24, 31, 3])
        self.images = np.stack([photo / 255, photo[::-1] / 255, black, white, red, noise])
        self.images = self.images.astype("float32")

    def adjust(self, name, images, strengths):
        return to_images(OPERATIONS[name](to_planes(images), floats(*strengths)))

    @parameterized.product(
        name=["brightness", "contrast", "saturation"],
        factors=[[0.6, 1.4, 0.7, 1.3, 1.2, 0.0], [2.0, 0.0, 3.0, 0.5, 0.1, 1.7]],
    )
    def test_factors_match_loops(self, name, factors):
        actual = self.adjust(name, self.images, factors)
        expected = [
            loop_colors.LOOPS[name](*pair) for pair in zip(self.images.astype("float64"), factors)
        ]
        self.assertAllClose(actual, expected, atol=1e-5)

    @parameterized.parameters(-0.5, -0.1, 0.0, 0.07, 0.33, 0.5)
    def test_hue_matches_loops(self, shift):
        shifts = [shift, -shift, shift, shift, shift, shift / 2]
        actual = self.adjust("hue", self.images, shifts)
        expected = [loop_colors.hue(*pair) for pair in zip(self.images.astype("float64"), shifts)]
        self.assertAllClose(actual, expected, atol=1e-5)

    @parameterized.product(
        name=["Brightness", "Contrast", "Color"], factor=[0.0, 0.6, 0.9, 1.0, 1.3, 1.8]
    )
    def test_factors_match_pillow(self, name, factor):
        photo = photograph(60, 80)
        expected = getattr(ImageEnhance, name)(Image.fromarray(photo)).enhance(factor)
        planes = photometric.split(photo[None])
        operation = OPERATIONS[{"Color": "saturation"}.get(name, name.lower())]
        actual = to_images(operation(planes, floats(factor)))[0]
        self.assertAllClose(255 * actual, np.asarray(expected, np.float32), rtol=0, atol=2.0)

    @parameterized.parameters(-0.5, -0.1, 0.0, 0.1)
    def test_hue_matches_pillow(self, shift):
        photo = photograph(60, 80)
        hue, saturation, value = (
            np.array(channel) for channel in Image.fromarray(photo).convert("HSV").split()
        )
        hue += np.array(shift * 255).astype(np.int32).astype(np.uint8)
        expected = Image.merge("HSV", [Image.fromarray(c) for c in (hue, saturation, value)])
        expected = np.asarray(expected.convert("RGB"), np.float32)
        actual = to_images(photometric.adjust_hue(photometric.split(photo[None]), floats(shift)))
        # Pillow's hue has 256 steps for the whole circle; a channel goes from 0 to 255
        # within a sixth of it. So rounding the hue moves a channel by up to 6, the
        # roundings of saturation, shift and result add to that.
        difference = np.abs(255 * actual[0] - expected)
        self.assertLess(difference.max(), 8.0)
        self.assertLess(difference.mean(), 1.0)

    @parameterized.parameters("brightness", "contrast", "saturation")
    def test_factor_1_is_the_exact_identity(self, name):
        self.assertAllEqual(self.adjust(name, self.images, np.ones(6)), self.images)

    def test_hue_keeps_greys_exactly(self):
        grey = np.repeat(self.images[..., :1], 3, axis=-1)
        self.assertAllEqual(self.adjust("hue", grey, np.linspace(-0.5, 0.5, 6)), grey)

    def test_grayscale_matches_pillow(self):
        photo = photograph(60, 80)
        expected = np.asarray(Image.fromarray(photo).convert("L"), np.float32)
        planes = photometric.to_grayscale(photometric.split(photo[None]), tf.constant([True]))
        for plane in planes:
            self.assertAllClose(255 * plane[0], expected, rtol=0, atol=1.0)

    def test_grayscale_of_some_images_leaves_the_others_as_they_are(self):
        is_gray = np.array([True, False, False, True, True, False])
        planes = photometric.to_grayscale(to_planes(self.images), tf.constant(is_gray))
        luma = np.repeat((self.images @ loop_colors.LUMA)[..., None], 3, axis=-1)
        actual = to_images(planes)
        self.assertAllClose(actual[is_gray], luma[is_gray], atol=1e-6)
        self.assertAllEqual(actual[~is_gray], self.images[~is_gray])


class SolarizeTest(tf.test.TestCase):
    def test_matches_pillow(self):
        photo = photograph(24, 30)
        expected = np.asarray(ImageOps.solarize(Image.fromarray(photo), threshold=128))
        planes = photometric.solarize(photometric.split(photo[None]), tf.constant([True]))
        self.assertAllClose(to_images(planes)[0] * 255, expected, atol=1e-3)

    def test_the_others_stay_as_they_are(self):
        photos = np.stack([photograph(8, 8)] * 2)
        before = photometric.split(photos)
        after = photometric.solarize(before, tf.constant([False, True]))
        self.assertAllEqual([old[0] for old in before], [new[0] for new in after])
        self.assertNotAllEqual([old[1] for old in before], [new[1] for new in after])


class ColorJitterTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        rng = np.random.default_rng(1)
        self.images = rng.uniform(size=[24, 7, 9, 3]).astype("float32")
        self.planes = to_planes(self.images)
        # Mostly above 1: without clipping most orders would give the same image.
        self.strengths = {
            "brightness": rng.uniform(1.2, 1.7, size=24).astype("float32"),
            "contrast": rng.uniform(1.2, 1.9, size=24).astype("float32"),
            "saturation": rng.uniform(1.3, 2.0, size=24).astype("float32"),
            "hue": rng.uniform(0.1, 0.4, size=24).astype("float32"),
        }
        for name, strength in (("brightness", 0.6), ("contrast", 0.0), ("saturation", 0.3)):
            self.strengths[name][::5] = strength
        self.strengths["hue"][::2] *= -1

    def loop_jitter(self, order, i, used):
        strengths = {name: self.strengths[name][i] for name in used}
        return loop_colors.jitter(self.images[i].astype("float64"), order, strengths)

    @parameterized.parameters(*itertools.product([True, False], repeat=4))
    def test_matches_loops_in_all_24_orders(self, *is_used):
        used = {n: s for (n, s), use in zip(self.strengths.items(), is_used) if use}
        actual = photometric.color_jitter(self.planes, tf.range(24), **used)
        expected = [self.loop_jitter(order, order, used) for order in range(24)]
        self.assertAllClose(to_images(actual), expected, rtol=0, atol=2e-5)

    def test_every_order_of_one_image_matches_loops(self):
        strengths = {name: tf.repeat(values[1:2], 24) for name, values in self.strengths.items()}
        planes = [tf.repeat(plane[1:2], 24, axis=0) for plane in self.planes]
        actual = to_images(photometric.color_jitter(planes, tf.range(24), **strengths))
        expected = [self.loop_jitter(order, 1, strengths) for order in range(24)]
        self.assertAllClose(actual, expected, rtol=0, atol=2e-5)
        for one, other in itertools.combinations(expected, 2):
            self.assertGreater(np.abs(one - other).max(), 1e-3)  # The orders can be told apart.

    def test_near_identity_without_strength(self):
        ones, zeros = tf.ones([24]), tf.zeros([24])
        actual = photometric.color_jitter(self.planes, tf.range(24), ones, ones, ones, zeros)
        self.assertAllClose(to_images(actual), self.images, rtol=0, atol=1e-6)

    def test_compiles(self):
        run = tf.function(photometric.color_jitter, jit_compile=True)
        actual = run(self.planes, tf.range(24), **self.strengths)
        expected = photometric.color_jitter(self.planes, tf.range(24), **self.strengths)
        self.assertAllClose(actual, expected, rtol=0, atol=2e-5)


class GaussianBlurTest(tf.test.TestCase, parameterized.TestCase):
    SIGMAS_PX = (0.05, 0.1, 0.4, 1.0, 1.5, 2.0)

    def blur(self, images, sigmas_px, max_sigma_px):
        planes = photometric.gaussian_blur(to_planes(images), floats(*sigmas_px), max_sigma_px)
        return to_images(planes)

    # The last is smaller than the Gaussian.
    @parameterized.parameters((20, 33), (41, 16), (5, 6))
    def test_matches_loops(self, height, width):
        images = np.random.default_rng(0).uniform(size=[6, height, width, 3])
        actual = self.blur(images, self.SIGMAS_PX, max_sigma_px=2.0)
        cut_off = [loop_colors.blur(*pair, radius=8) for pair in zip(images, self.SIGMAS_PX)]
        self.assertAllClose(actual, cut_off, rtol=0, atol=2e-6)
        # Twice 6e-5 of the weight is missing, but only where sigma is the largest.
        gaussian = np.stack([loop_colors.blur(*pair) for pair in zip(images, self.SIGMAS_PX)])
        self.assertAllClose(actual, gaussian, rtol=0, atol=1.3e-4)
        self.assertAllClose(actual[:4], gaussian[:4], rtol=0, atol=2e-6)

    @parameterized.parameters(0.3, 0.5, 0.9)
    def test_reaches_four_times_the_largest_sigma(self, max_sigma_px):
        point = np.zeros([1, 20, 33, 3])
        point[:, 10, 16] = 1.0
        radius = math.ceil(4 * max_sigma_px)
        actual = self.blur(np.repeat(point, 6, axis=0), [max_sigma_px] * 6, max_sigma_px)
        expected = loop_colors.blur(point[0], max_sigma_px, radius)
        self.assertAllClose(actual[0], expected, rtol=0, atol=1e-6)
        rows, columns = np.nonzero(actual[0, :, :, 0])
        self.assertAllEqual([rows.min(), rows.max()], [10 - radius, 10 + radius])
        self.assertAllEqual([columns.min(), columns.max()], [16 - radius, 16 + radius])

    @parameterized.parameters(0.5, 1.0, 2.0)
    def test_is_near_pillow(self, sigma_px):
        photo = photograph(64, 80)
        blurred = Image.fromarray(photo).filter(ImageFilter.GaussianBlur(sigma_px))
        expected = np.asarray(blurred, np.float32)
        planes = photometric.gaussian_blur(photometric.split(photo[None]), floats(sigma_px), 2.0)
        # Pillow blurs with three boxes in turn, each of which extends the border anew:
        # close to a Gaussian inside, less so in the outermost pixels.
        difference = np.abs(255 * to_images(planes)[0] - expected)
        self.assertLess(difference.mean(), 1.0)
        self.assertLess(difference[8:-8, 8:-8].max(), 4.0)

    def test_sigma_0_is_the_exact_identity(self):
        images = np.random.default_rng(0).uniform(size=[6, 20, 33, 3]).astype("float32")
        actual = self.blur(images, [0.0, 1.0, -1.0, 0.0, 2.0, 0.1], max_sigma_px=2.0)
        is_blurred = np.array([False, True, False, False, True, False])
        self.assertAllEqual(actual[~is_blurred], images[~is_blurred])
        self.assertNotAllClose(actual[1], images[1])
        self.assertNotAllClose(actual[4], images[4])

    def test_keeps_a_constant_image(self):
        images = np.full([6, 20, 33, 3], 0.7, np.float32)
        actual = self.blur(images, self.SIGMAS_PX, max_sigma_px=2.0)
        self.assertAllClose(actual, images, rtol=0, atol=1e-6)

    def test_any_range(self):
        images = np.random.default_rng(0).uniform(size=[6, 20, 33, 3])
        plain = self.blur(images, self.SIGMAS_PX, max_sigma_px=2.0)
        wide = self.blur(300 * images - 100, self.SIGMAS_PX, max_sigma_px=2.0)
        self.assertAllClose(wide, 300 * plain - 100, rtol=0, atol=1e-3)

    def test_compiles(self):
        images = np.random.default_rng(0).uniform(size=[6, 20, 33, 3])
        planes, sigmas_px = to_planes(images), floats(*self.SIGMAS_PX)
        run = tf.function(lambda *args: photometric.gaussian_blur(*args, 2.0), jit_compile=True)
        expected = photometric.gaussian_blur(planes, sigmas_px, 2.0)
        self.assertAllClose(run(planes, sigmas_px), expected, rtol=0, atol=1e-6)


class SplitAndNormalizeTest(tf.test.TestCase):
    def test_split_gives_channels_from_0_to_1(self):
        levels = np.arange(256, dtype=np.uint8).reshape([1, 16, 16])
        channels = [levels, levels[:, ::-1], levels.transpose(0, 2, 1)]
        planes = photometric.split(np.stack(channels, axis=-1))
        self.assertLen(planes, 3)
        for plane, expected in zip(planes, channels):
            self.assertEqual(plane.dtype, tf.float32)
            self.assertAllClose(plane, expected / 255, rtol=1e-6, atol=0)
            self.assertEqual((np.min(plane), np.max(plane)), (0.0, 1.0))

    def test_normalize_matches_torchvisions_formula(self):
        images = np.random.default_rng(0).integers(0, 256, [2, 5, 6, 3]).astype(np.uint8)
        mean, std = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
        actual = photometric.normalize(photometric.split(images), mean, std)
        self.assertEqual(actual.dtype, tf.float32)
        self.assertAllClose(actual, (images / 255 - mean) / std, rtol=0, atol=2e-6)


if __name__ == "__main__":
    tf.test.main()
