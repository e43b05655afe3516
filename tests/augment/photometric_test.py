import colorsys
import itertools

import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from PIL import Image, ImageEnhance, ImageFilter
from sklearn.datasets import load_sample_image

from csml_tf.augment import photometric

LUMA = np.array([0.299, 0.587, 0.114])


def photograph(height, width):
    image = Image.fromarray(load_sample_image("flower.jpg"))
    return np.asarray(image.resize((width, height)))


def clip(image):
    return np.minimum(np.maximum(image, 0.0), 1.0)


def loop_brightness(image, factor):
    return clip(factor * image)


def loop_contrast(image, factor):
    return clip(factor * image + (1 - factor) * np.mean(image @ LUMA))


def loop_saturation(image, factor):
    return clip(factor * image + (1 - factor) * (image @ LUMA)[..., None])


def loop_hue(image, shift):
    turned = np.empty_like(image)
    for row, column in np.ndindex(image.shape[:2]):
        hue, saturation, value = colorsys.rgb_to_hsv(*image[row, column])
        turned[row, column] = colorsys.hsv_to_rgb((hue + shift) % 1.0, saturation, value)
    return turned


def loop_blur(image, sigma_px):
    radius = int(8 * sigma_px) + 1  # A true Gaussian: what is cut off is below 1e-14.
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (offsets / sigma_px) ** 2)
    weights /= weights.sum()
    for axis in (0, 1):
        places = np.arange(image.shape[axis])
        image = sum(
            weight * np.take(image, np.clip(places + offset, 0, places[-1]), axis)
            for offset, weight in zip(offsets, weights)
        )
    return image


LOOPS = {
    "brightness": loop_brightness,
    "contrast": loop_contrast,
    "saturation": loop_saturation,
    "hue": loop_hue,
}
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

    @parameterized.product(
        name=["brightness", "contrast", "saturation"],
        factors=[[0.6, 1.4, 0.7, 1.3, 1.2, 0.0], [2.0, 0.0, 3.0, 0.5, 0.1, 1.7]],
    )
    def test_factors_match_loops(self, name, factors):
        actual = OPERATIONS[name](self.images, factors)
        expected = [LOOPS[name](*pair) for pair in zip(self.images.astype("float64"), factors)]
        self.assertAllClose(actual, expected, atol=1e-5)

    @parameterized.parameters(-0.5, -0.1, 0.0, 0.07, 0.33, 0.5)
    def test_hue_matches_loops(self, shift):
        shifts = [shift, -shift, shift, shift, shift, shift / 2]
        actual = photometric.adjust_hue(self.images, shifts)
        expected = [loop_hue(*pair) for pair in zip(self.images.astype("float64"), shifts)]
        self.assertAllClose(actual, expected, atol=1e-5)

    @parameterized.product(
        name=["Brightness", "Contrast", "Color"], factor=[0.0, 0.6, 0.9, 1.0, 1.3, 1.8]
    )
    def test_factors_match_pillow(self, name, factor):
        operation = OPERATIONS[{"Color": "saturation"}.get(name, name.lower())]
        photo = photograph(60, 80)
        expected = getattr(ImageEnhance, name)(Image.fromarray(photo)).enhance(factor)
        actual = operation((photo / 255).astype("float32")[None], [factor])[0]
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
        actual = 255 * photometric.adjust_hue((photo / 255).astype("float32")[None], [shift])[0]
        # Pillow's hue has 256 steps for the whole circle; a channel goes from 0 to 255
        # within a sixth of it. So rounding the hue moves a channel by up to 6, the
        # roundings of saturation, shift and result add to that.
        difference = np.abs(actual.numpy() - expected)
        self.assertLess(difference.max(), 8.0)
        self.assertLess(difference.mean(), 1.0)

    def test_grayscale_matches_pillow(self):
        photo = photograph(60, 80)
        expected = np.asarray(Image.fromarray(photo).convert("L"), np.float32)
        actual = photometric.to_grayscale((photo / 255).astype("float32")[None])[0]
        for channel in range(3):
            self.assertAllClose(255 * actual[..., channel], expected, rtol=0, atol=1.0)

    @parameterized.parameters("brightness", "contrast", "saturation")
    def test_factor_1_is_the_exact_identity(self, name):
        self.assertAllEqual(OPERATIONS[name](self.images, np.ones(6)), self.images)

    def test_hue_keeps_greys_exactly(self):
        grey = np.repeat(self.images[..., :1], 3, axis=-1)
        self.assertAllEqual(photometric.adjust_hue(grey, np.linspace(-0.5, 0.5, 6)), grey)


class ColorJitterTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        rng = np.random.default_rng(1)
        photo = photograph(14, 18) / 255
        gains = rng.uniform(0.3, 1.0, size=[24, 1, 1, 3])
        self.images = (photo * gains).astype("float32")
        self.strengths = {
            "brightness": rng.uniform(0.5, 1.8, size=24).astype("float32"),
            "contrast": rng.uniform(0.5, 1.8, size=24).astype("float32"),
            "saturation": rng.uniform(0.0, 2.0, size=24).astype("float32"),
            "hue": rng.uniform(-0.5, 0.5, size=24).astype("float32"),
        }

    def loop_jitter(self, used):
        """Image i in the i-th order, one operation after the other."""
        expected = []
        for order, image in enumerate(self.images.astype("float64")):
            names = list(itertools.permutations(["brightness", "contrast", "saturation"]))
            names = list(names[order % 6])
            names.insert(order // 6, "hue")
            for name in names:
                if name in used:
                    image = LOOPS[name](image, self.strengths[name][order])
            expected.append(image)
        return expected

    @parameterized.parameters(*itertools.product([True, False], repeat=4))
    def test_matches_loops_in_all_24_orders(self, *is_used):
        used = {n: s for (n, s), use in zip(self.strengths.items(), is_used) if use}
        actual = photometric.color_jitter(self.images, np.arange(24), **used)
        self.assertAllClose(actual, self.loop_jitter(used), rtol=0, atol=2e-5)

    def test_near_identity_without_strength(self):
        ones, zeros = np.ones(24, np.float32), np.zeros(24, np.float32)
        actual = photometric.color_jitter(self.images, np.arange(24), ones, ones, ones, zeros)
        self.assertAllClose(actual, self.images, rtol=0, atol=1e-6)

    def test_compiles(self):
        run = tf.function(photometric.color_jitter, jit_compile=True)
        actual = run(self.images, tf.range(24), **self.strengths)
        expected = photometric.color_jitter(self.images, tf.range(24), **self.strengths)
        self.assertAllClose(actual, expected, rtol=0, atol=2e-5)


class GaussianBlurTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters((20, 20), (20, 33), (41, 16))
    def test_matches_loops(self, height, width):
        sigmas_px = [0.05, 0.1, 0.4, 1.0, 2.0, 3.0]
        images = np.random.default_rng(0).uniform(size=[6, height, width, 3])
        actual = photometric.gaussian_blur(images.astype("float32"), sigmas_px)
        expected = [loop_blur(*pair) for pair in zip(images, sigmas_px)]
        self.assertAllClose(actual, expected, rtol=0, atol=1e-5)

    @parameterized.parameters(0.5, 1.0, 2.0)
    def test_is_near_pillow(self, sigma_px):
        photo = photograph(64, 80)
        blurred = Image.fromarray(photo).filter(ImageFilter.GaussianBlur(sigma_px))
        expected = np.asarray(blurred, np.float32)
        actual = photometric.gaussian_blur((photo / 255).astype("float32")[None], [sigma_px])[0]
        # Pillow blurs with three boxes in turn, each of which extends the border anew:
        # close to a Gaussian inside, less so in the outermost pixels.
        difference = np.abs(255 * actual.numpy() - expected)
        self.assertLess(difference.mean(), 1.0)
        self.assertLess(difference[8:-8, 8:-8].max(), 4.0)

    def test_sigma_0_is_the_exact_identity(self):
        images = np.random.default_rng(0).uniform(size=[3, 12, 12, 3]).astype("float32")
        actual = photometric.gaussian_blur(images, [0.0, 1.0, -1.0])
        self.assertAllEqual(actual[0], images[0])
        self.assertNotAllClose(actual[1], images[1])
        self.assertAllEqual(actual[2], images[2])

    def test_keeps_a_constant_image(self):
        actual = photometric.gaussian_blur(tf.fill([3, 9, 12, 3], 0.7), [0.1, 1.0, 2.0])
        self.assertAllClose(actual, tf.fill([3, 9, 12, 3], 0.7), rtol=0, atol=1e-6)

    def test_compiles(self):
        images = np.random.default_rng(0).uniform(size=[2, 12, 15, 3]).astype("float32")
        run = tf.function(photometric.gaussian_blur, jit_compile=True)
        sigmas_px = tf.constant([0.5, 1.5])
        expected = photometric.gaussian_blur(images, sigmas_px)
        self.assertAllClose(run(images, sigmas_px), expected, rtol=0, atol=1e-6)


class NormalizeTest(tf.test.TestCase):
    def test_matches_formula(self):
        images = np.random.default_rng(0).uniform(size=[2, 5, 6, 3]).astype("float32")
        mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
        actual = photometric.normalize(images, mean, std)
        self.assertEqual(actual.dtype, tf.float32)
        self.assertAllClose(actual, (images - np.array(mean)) / np.array(std), atol=1e-6)


if __name__ == "__main__":
    tf.test.main()
