import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from PIL import Image
from scipy import stats
from sklearn.datasets import load_sample_image

from csml_tf.augment import geometric, photometric, view
from csml_tf.augment.view import ViewAugmentation

NUM_DRAWS = 10000
OFF = {
    "jitter_probability": 0,
    "grayscale_probability": 0,
    "blur_probability": 0,
    "flip_probability": 0,
}


def photograph(height, width):
    image = Image.fromarray(load_sample_image("china.jpg"))
    return np.asarray(image.resize((width, height)))


def op_names(function, *args):
    graph = tf.function(function).get_concrete_function(*args).graph
    return {operation.type for operation in graph.get_operations()}


class DistributionTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        num_uniforms = ViewAugmentation(image_size=8).num_uniforms
        self.uniforms = tf.random.stateless_uniform([NUM_DRAWS, num_uniforms], [3, 14])

    def assert_uniform(self, values, low, high):
        self.assertAllInRange(values, low, high)
        test = stats.kstest(values, stats.uniform(low, high - low).cdf)
        self.assertGreater(test.pvalue, 0.001)

    def assert_share(self, mask, probability):
        self.assertGreater(stats.binomtest(int(np.sum(mask)), len(mask), probability).pvalue, 0.001)

    @parameterized.parameters(
        ("brightness", 0.4, 0.6, 1.4),
        ("contrast", 0.3, 0.7, 1.3),
        ("saturation", 1.5, 0.0, 2.5),
        ("hue", 0.1, -0.1, 0.1),
    )
    def test_jitter_strengths(self, name, strength, low, high):
        augmentation = ViewAugmentation(image_size=8, **{name: strength})
        values = augmentation.jitter_strengths(self.uniforms)[name].numpy()
        is_jittered = values != (0.0 if name == "hue" else 1.0)
        self.assert_share(is_jittered, 0.8)
        self.assert_uniform(values[is_jittered], low, high)

    def test_jitters_all_four_or_none(self):
        strengths = ViewAugmentation(image_size=8).jitter_strengths(self.uniforms)
        is_still = [strengths[n].numpy() == 1 for n in ("brightness", "contrast", "saturation")]
        is_still.append(strengths["hue"].numpy() == 0)
        self.assertAllEqual(np.all(is_still, axis=0), np.any(is_still, axis=0))

    def test_orders_are_equally_likely(self):
        orders = ViewAugmentation(image_size=8).jitter_strengths(self.uniforms)["orders"].numpy()
        counts = np.bincount(orders, minlength=24)
        self.assertLen(counts, 24)
        self.assertGreater(stats.chisquare(counts).pvalue, 0.001)

    def test_blur_sigmas(self):
        augmentation = ViewAugmentation(image_size=8, blur_probability=0.3)
        sigmas_px = augmentation.blur_sigmas_px(self.uniforms).numpy()
        self.assert_share(sigmas_px > 0, 0.3)
        self.assert_uniform(sigmas_px[sigmas_px > 0], 0.1, 2.0)

    def test_crop_areas_ratios_and_places(self):
        # In a square image that large an attempt almost never fails at these limits.
        augmentation = ViewAugmentation(image_size=8, crop_scale=(0.2, 0.7))
        windows = geometric.random_resized_crop_windows(
            4000,
            4000,
            self.uniforms[:, : geometric.NUM_CROP_UNIFORMS],
            augmentation.crop_scale,
            augmentation.crop_ratio,
        )
        top, left, height, width = windows.numpy().astype("float64").T
        areas, log_ratios = height * width / 4000**2, np.log(width / height)
        self.assertGreater(stats.kstest(areas, stats.uniform(0.2, 0.5).cdf).pvalue, 0.001)
        limit = np.log(4 / 3)
        ratio_test = stats.kstest(log_ratios, stats.uniform(-limit, 2 * limit).cdf)
        self.assertGreater(ratio_test.pvalue, 0.001)
        self.assert_uniform((top + 0.5) / (4000 - height + 1), 0.0, 1.0)
        self.assert_uniform((left + 0.5) / (4000 - width + 1), 0.0, 1.0)

    def test_flips(self):
        image = np.zeros([4, 4, 3], np.uint8)
        image[:, 2:] = 255  # Any crop of it is darker on the left.
        augmentation = ViewAugmentation(image_size=4, crop_scale=(0.9, 1.0), flip_probability=0.3)
        crops = augmentation.geometric(np.stack([image] * NUM_DRAWS), self.uniforms).numpy()
        self.assert_share(crops[:, 0, 0, 0] > crops[:, 0, -1, 0], 0.3)

    def test_grayscale(self):
        augmentation = ViewAugmentation(
            image_size=1, **{**OFF, "grayscale_probability": 0.2}, mean=(0, 0, 0), std=(1, 1, 1)
        )
        images = np.tile(np.array([255, 0, 0], np.uint8), [NUM_DRAWS, 1, 1, 1])
        views = augmentation.photometric(images, self.uniforms).numpy()[:, 0, 0]
        is_gray = views[:, 0] < 1.0
        self.assert_share(is_gray, 0.2)
        self.assertAllClose(views[is_gray], np.full([is_gray.sum(), 3], 0.299))

    def test_decisions_are_independent(self):
        augmentation = ViewAugmentation(image_size=8)
        strengths = augmentation.jitter_strengths(self.uniforms)
        windows = geometric.random_resized_crop_windows(
            500, 500, self.uniforms[:, : geometric.NUM_CROP_UNIFORMS]
        )
        columns = [values.numpy() for values in strengths.values()]
        columns += [augmentation.blur_sigmas_px(self.uniforms).numpy(), *windows.numpy().T]
        columns += [self.uniforms[:, view._FLIP].numpy(), self.uniforms[:, view._GRAYSCALE].numpy()]
        correlations = np.corrcoef(np.array(columns, np.float64)) - np.eye(len(columns))
        # Top, left, height and width depend on each other.
        correlations[6:10, 6:10] = 0
        self.assertLess(np.abs(correlations).max(), 0.05)


class ViewAugmentationTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.images = np.stack([np.roll(photograph(40, 52), 7 * i, axis=1) for i in range(16)])
        num_uniforms = ViewAugmentation(image_size=8).num_uniforms
        self.uniforms = tf.random.stateless_uniform([16, num_uniforms], [1, 2])

    @parameterized.parameters(True, False)
    def test_matches_the_parts_in_order(self, grayscale_first):
        augmentation = ViewAugmentation(
            image_size=24, grayscale_probability=0.5, grayscale_first=grayscale_first
        )
        crops = augmentation.geometric(self.images, self.uniforms)
        strengths = augmentation.jitter_strengths(self.uniforms)
        is_gray = self.uniforms[:, view._GRAYSCALE, None, None, None] < 0.5
        expected = tf.cast(crops, tf.float32) / 255
        if grayscale_first:
            expected = tf.where(is_gray, photometric.to_grayscale(expected), expected)
        expected = photometric.color_jitter(expected, **strengths)
        if not grayscale_first:
            expected = tf.where(is_gray, photometric.to_grayscale(expected), expected)
        sigmas_px = augmentation.blur_sigmas_px(self.uniforms)
        expected = photometric.gaussian_blur(expected, sigmas_px).numpy()
        expected = (expected - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
        self.assertAllClose(augmentation(self.images, self.uniforms), expected, atol=1e-5)

    def test_grayscale_first_leaves_no_colour_behind(self):
        options = {"grayscale_probability": 1, "mean": (0, 0, 0), "std": (1, 1, 1)}
        for grayscale_first in (True, False):
            augmentation = ViewAugmentation(
                image_size=8, grayscale_first=grayscale_first, **options
            )
            views = augmentation(self.images, self.uniforms).numpy()
            self.assertAllClose(views[..., 0], views[..., 2], atol=1e-6)

    def test_geometric_is_the_crop_and_the_flip(self):
        augmentation = ViewAugmentation(image_size=24, crop_scale=(0.1, 0.5))
        windows = geometric.random_resized_crop_windows(
            40, 52, self.uniforms[:, : geometric.NUM_CROP_UNIFORMS], (0.1, 0.5)
        ).numpy()
        actual = augmentation.geometric(self.images, self.uniforms).numpy().astype(int)
        flips = self.uniforms[:, view._FLIP].numpy() < 0.5
        self.assertBetween(flips.sum(), 1, 15)
        for image, (top, left, height, width), flip, crop in zip(
            self.images, windows, flips, actual
        ):
            box = (left, top, left + width, top + height)
            expected = Image.fromarray(image).crop(box).resize((24, 24), Image.BILINEAR)
            expected = np.asarray(expected).astype(int)
            expected = expected[:, ::-1] if flip else expected
            self.assertAllClose(crop, expected, rtol=0, atol=1)

    def test_one_image_equals_its_place_in_a_batch(self):
        augmentation = ViewAugmentation(image_size=24)
        batch = augmentation(self.images, self.uniforms)
        for i in range(4):
            one = augmentation(self.images[i], self.uniforms[i])
            # A crop is rounded to 1 of 255, and std divides by a quarter.
            self.assertAllClose(one, batch[i], rtol=0, atol=0.06)

    def test_other_parts_stay_when_one_is_off(self):
        everything = ViewAugmentation(image_size=24)
        no_blur = ViewAugmentation(image_size=24, blur_probability=0)
        is_sharp = everything.blur_sigmas_px(self.uniforms).numpy() == 0
        self.assertBetween(is_sharp.sum(), 1, 15)
        self.assertAllClose(
            everything(self.images, self.uniforms)[is_sharp],
            no_blur(self.images, self.uniforms)[is_sharp],
            atol=1e-5,
        )

    def test_everything_off_normalises_only(self):
        augmentation = ViewAugmentation(image_size=40, **OFF)
        images = self.images[:, :, :40]
        expected = (images / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
        actual = augmentation.photometric(images, self.uniforms)
        self.assertAllClose(actual, expected, atol=1e-5)

    def test_parts_that_are_off_are_not_traced(self):
        images, uniforms = tf.constant(self.images[:, :40, :40]), self.uniforms
        everything = op_names(ViewAugmentation(image_size=40).photometric, images, uniforms)
        nothing = op_names(ViewAugmentation(image_size=40, **OFF).photometric, images, uniforms)
        strengthless = ViewAugmentation(
            image_size=40,
            **{**OFF, "jitter_probability": 0.8},
            brightness=0,
            contrast=0,
            saturation=0,
            hue=0,
        )
        self.assertContainsSubset({"BatchMatMulV2", "Floor", "SelectV2", "Mean"}, everything)
        heavy = {"BatchMatMulV2", "Floor", "SelectV2", "Mean", "Unpack", "Pack", "Minimum"}
        self.assertEmpty(nothing & heavy)
        self.assertNotIn("Unpack", op_names(strengthless.photometric, images, uniforms))

    def test_photometric_compiles(self):
        augmentation = ViewAugmentation(image_size=40)
        images = self.images[:, :, :40]
        run = tf.function(augmentation.photometric, jit_compile=True)
        expected = augmentation.photometric(images, self.uniforms)
        self.assertAllClose(run(images, self.uniforms), expected, rtol=0, atol=1e-4)

    def test_pipeline_of_photographs_of_any_size(self):
        augmentation = ViewAugmentation(image_size=24)
        spec = tf.TensorSpec([None, None, 3], tf.uint8)
        sizes = ((30, 50), (70, 20))
        dataset = tf.data.Dataset.from_generator(
            lambda: (photograph(*size) for size in sizes), output_signature=spec
        )
        dataset = dataset.map(lambda image: augmentation(image, self.uniforms[0]))
        self.assertEqual(dataset.element_spec, tf.TensorSpec([24, 24, 3], tf.float32))
        self.assertLen(list(dataset), 2)

    @parameterized.parameters(
        ({"image_size": 0}, "image_size must be at least 1, got 0"),
        ({"crop_scale": (0.5, 0.2)}, "crop_scale must be two rising numbers"),
        ({"crop_scale": (0.2, 1.5)}, "crop_scale .* at most 1"),
        ({"crop_ratio": (0.0, 1.0)}, "crop_ratio .* above 0, got"),
        ({"blur_sigma_px": (2.0,)}, "blur_sigma_px must be two"),
        ({"brightness": -1}, "brightness must be at least 0, got -1"),
        ({"hue": 0.6}, "hue must be between 0 and 0.5, got 0.6"),
        ({"blur_probability": 1.1}, "blur_probability must be between 0 and 1, got 1.1"),
        ({"mean": (0.5,)}, "mean must be three numbers"),
        ({"std": (1, 1, 0)}, "std must be three numbers above 0"),
    )
    def test_rejects_arguments_out_of_range(self, arguments, message):
        with self.assertRaisesRegex(ValueError, message):
            ViewAugmentation(**{"image_size": 32, **arguments})


if __name__ == "__main__":
    tf.test.main()
