import functools
import io
import re

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


OTHER_BLUR = {"blur_probability": 0.3, "blur_sigma_px": (0.4, 1.0)}


@functools.cache
def photograph(height, width):
    image = Image.fromarray(load_sample_image("china.jpg"))
    return np.asarray(image.resize((width, height)))


def encode(pixels, file_format):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, file_format)
    return buffer.getvalue()


def step_names(function, *args):
    """The compiled steps that a function calls: "adjust_hue" and so on, some "__private"."""
    graph = tf.function(function).get_concrete_function(*args).graph
    calls = [operation for operation in graph.get_operations() if "Call" in operation.type]
    return {
        re.fullmatch(r"__inference_(.*)_\d+", call.get_attr("f").name).group(1) for call in calls
    }


class DistributionTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        num_uniforms = ViewAugmentation(image_size=8).num_uniforms
        self.uniforms = tf.random.stateless_uniform([NUM_DRAWS, num_uniforms], [3, 14])

    def assert_uniform(self, values, low, high, margin=0.0):
        self.assertAllInRange(values, low - margin, high + margin)
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

    @parameterized.parameters(({}, 0.5, 0.1, 2.0), (OTHER_BLUR, 0.3, 0.4, 1.0))
    def test_blur_sigmas(self, arguments, probability, low, high):
        augmentation = ViewAugmentation(image_size=8, **arguments)
        sigmas_px = augmentation.blur_sigmas_px(self.uniforms).numpy()
        self.assert_share(sigmas_px > 0, probability)
        self.assert_uniform(sigmas_px[sigmas_px > 0], low, high)

    @parameterized.parameters(({}, 0.2), ({"crop_scale": (0.05, 0.14)}, 0.05))
    def test_crop_areas_ratios_and_places(self, arguments, smallest_area):
        augmentation = ViewAugmentation(image_size=8, **arguments)
        windows = augmentation.windows(4000, 4000, self.uniforms)
        top, left, height, width = windows.numpy().astype("float64").T
        # An attempt of a ratio below 1 / area fails and is drawn again, so that below
        # 3 / 4 the areas are uniform, and up to there the ratios.
        areas, log_ratios = height * width / 4000**2, np.log(width / height)
        largest_area = min(0.75, augmentation.crop_scale[1])
        always_fits = areas < largest_area
        self.assertGreater(always_fits.mean(), 0.6)
        self.assert_uniform(areas[always_fits], smallest_area, largest_area, margin=1e-3)
        limit = np.log(4 / 3)
        self.assert_uniform(log_ratios[always_fits], -limit, limit, margin=1e-3)
        self.assert_uniform((top + 0.5) / (4000 - height + 1), 0.0, 1.0)
        self.assert_uniform((left + 0.5) / (4000 - width + 1), 0.0, 1.0)

    @parameterized.parameters(({}, 0.5), ({"flip_probability": 0.3}, 0.3))
    def test_flips(self, arguments, probability):
        image = np.zeros([4, 4, 3], np.uint8)
        image[:, 2:] = 255  # Any crop of it is darker on the left.
        augmentation = ViewAugmentation(image_size=4, crop_scale=(0.9, 1.0), **arguments)
        crops = augmentation.geometric(np.stack([image] * NUM_DRAWS), self.uniforms).numpy()
        is_flipped = crops[:, 0, 0, 0] > crops[:, 0, -1, 0]
        self.assert_share(is_flipped, probability)
        self.assertAllEqual(augmentation.flips(self.uniforms), is_flipped)

    def test_grayscale(self):
        augmentation = ViewAugmentation(
            image_size=1, jitter_probability=0, blur_probability=0, mean=(0, 0, 0), std=(1, 1, 1)
        )
        images = np.tile(np.array([255, 0, 0], np.uint8), [NUM_DRAWS, 1, 1, 1])
        views = augmentation.photometric(images, self.uniforms).numpy()[:, 0, 0]
        is_gray = views[:, 0] < 1.0
        self.assert_share(is_gray, 0.2)
        self.assertAllClose(views[is_gray], np.full([is_gray.sum(), 3], 0.299))

    @parameterized.parameters(0.2, 1.0)
    def test_solarization(self, probability):
        augmentation = ViewAugmentation(image_size=8, solarize_probability=probability)
        is_solarized = augmentation.is_solarized(self.uniforms).numpy()
        self.assert_share(is_solarized, probability)
        for order in range(24):  # Whatever the order of the jitter.
            orders = augmentation.jitter_strengths(self.uniforms)["orders"].numpy()
            chosen = is_solarized[orders == order]
            self.assertAllClose(chosen.mean(), probability, atol=5 / len(chosen) ** 0.5)

    def test_decisions_are_independent(self):
        augmentation = ViewAugmentation(image_size=8)
        strengths = augmentation.jitter_strengths(self.uniforms)
        windows = augmentation.windows(500, 500, self.uniforms)
        columns = [values.numpy() for values in strengths.values()]
        columns += [augmentation.blur_sigmas_px(self.uniforms).numpy(), *windows.numpy().T]
        columns += [augmentation.flips(self.uniforms), self.uniforms[:, view._GRAYSCALE]]
        columns += [strengths["brightness"] != 1]
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

    @parameterized.product(
        [
            {"grayscale_first": True, "solarize_probability": 0.0},
            {"grayscale_first": False, "solarize_probability": 0.0},
            {"grayscale_first": False, "solarize_probability": 0.5},
        ],
        on_accelerator=[True, False],
    )
    def test_matches_the_parts_in_order(
        self, grayscale_first, solarize_probability, on_accelerator
    ):
        augmentation = ViewAugmentation(
            image_size=24,
            grayscale_probability=0.5,
            grayscale_first=grayscale_first,
            solarize_probability=solarize_probability,
        )
        crops = augmentation.geometric(self.images, self.uniforms)
        strengths = augmentation.jitter_strengths(self.uniforms)
        is_gray = self.uniforms[:, view._GRAYSCALE] < 0.5
        planes = photometric.split(crops)
        if grayscale_first:
            planes = photometric.to_grayscale(planes, is_gray)
        planes = photometric.color_jitter(planes, **strengths)
        if not grayscale_first:
            planes = photometric.to_grayscale(planes, is_gray)
        sigmas_px = augmentation.blur_sigmas_px(self.uniforms)
        planes = photometric.gaussian_blur(planes, sigmas_px, 2.0)
        if solarize_probability:
            planes = photometric.solarize(planes, augmentation.is_solarized(self.uniforms))
        expected = (np.stack(planes, axis=-1) - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
        actual = augmentation.photometric(crops, self.uniforms, on_accelerator)
        self.assertAllClose(actual, expected, atol=1e-5)

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
        crops, uniforms = tf.zeros([16, 24, 24, 3], tf.uint8), self.uniforms

        def steps(**arguments):
            augmentation = ViewAugmentation(image_size=24, **arguments)
            return step_names(augmentation.photometric, crops, uniforms, True)

        nothing = {"split", "normalize"}
        blends, contrast, hue = {"_blend_places"}, {"_contrast_then_blends"}, {"_hue_then_blends"}
        blur = {"gaussian_weights", "_convolve_columns", "_convolve_rows"}
        everything = nothing | blends | contrast | hue | blur | {"to_grayscale"}
        self.assertEqual(steps(), everything)
        self.assertEqual(steps(blur_probability=0), everything - blur)
        self.assertEqual(steps(grayscale_probability=0), everything - {"to_grayscale"})
        self.assertEqual(steps(jitter_probability=0), everything - blends - contrast - hue)
        self.assertEqual(steps(hue=0), everything - hue)
        self.assertEqual(steps(solarize_probability=0.2), everything | {"solarize"})
        self.assertEqual(steps(contrast=0), everything - contrast)
        self.assertEqual(steps(**OFF), nothing)

    @parameterized.parameters(True, False)
    def test_batches_of_any_size(self, on_accelerator):
        augmentation = ViewAugmentation(image_size=24)
        crops = self.images[:, :24, :24]
        dataset = tf.data.Dataset.from_tensor_slices((crops, self.uniforms)).batch(6)
        views = dataset.map(lambda *rows: augmentation.photometric(*rows, on_accelerator))
        self.assertEqual(views.element_spec.shape.as_list(), [None, 24, 24, 3])
        expected = augmentation.photometric(crops, self.uniforms, on_accelerator)
        self.assertAllClose(np.concatenate(list(views)), expected, rtol=0, atol=1e-5)

    @parameterized.parameters(True, False)
    def test_photometric_compiles(self, on_accelerator):
        augmentation = ViewAugmentation(image_size=24)
        crops = self.images[:, :24, :24]
        run = tf.function(augmentation.photometric, jit_compile=True)
        expected = augmentation.photometric(crops, self.uniforms, on_accelerator)
        self.assertAllClose(run(crops, self.uniforms, on_accelerator), expected, rtol=0, atol=1e-4)

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

    def test_mean_and_std_may_be_whole_numbers(self):
        augmentation = ViewAugmentation(image_size=24, **OFF, mean=(0, 0, 0), std=(1, 1, 1))
        crops = self.images[:, :24, :24]
        views = augmentation.photometric(crops, self.uniforms)
        self.assertAllClose(views, crops / 255, rtol=0, atol=1e-6)

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


class CutViewsTest(tf.test.TestCase, parameterized.TestCase):
    # A view of at most 83 pixels' width, in no less than 48: no image is decoded smaller.
    AUGMENTATIONS = (
        ViewAugmentation(image_size=48, flip_probability=1.0),
        ViewAugmentation(image_size=64, flip_probability=0.0),
        ViewAugmentation(image_size=48, crop_scale=(0.05, 0.14)),
    )

    def setUp(self):
        super().setUp()
        num_uniforms = self.AUGMENTATIONS[0].num_uniforms
        self.uniforms = tf.random.stateless_uniform([12, 3, num_uniforms], [5, 6])

    @parameterized.parameters("JPEG", "PNG", "GIF")
    def test_is_geometric_of_the_decoded_image(self, file_format):
        """Of each view, with each view's own numbers."""

        @tf.function
        def cut(encoded, uniforms):
            return view.cut_views(encoded, self.AUGMENTATIONS, tf.unstack(uniforms))

        for sides, rows in (((61, 83), self.uniforms[:8]), ((80, 50), self.uniforms[8:])):
            encoded = tf.constant(encode(photograph(*sides), file_format))
            image = geometric.decode_image(encoded)
            for row in rows:
                crops = cut(encoded, row)
                self.assertLen(crops, 3)
                for crop, augmentation, uniforms in zip(crops, self.AUGMENTATIONS, row):
                    self.assertAllEqual(crop, augmentation.geometric(image, uniforms))

    def test_pipeline_of_files_of_any_size_and_format(self):
        files = [encode(photograph(30, 50), "JPEG"), encode(photograph(70, 20), "PNG")]
        dataset = tf.data.Dataset.from_tensor_slices((files, self.uniforms[:2]))
        dataset = dataset.map(
            lambda encoded, row: view.cut_views(encoded, self.AUGMENTATIONS, tf.unstack(row))
        )
        specs = [tf.TensorSpec([size, size, 3], tf.uint8) for size in (48, 64, 48)]
        self.assertEqual(list(dataset.element_spec), specs)
        self.assertLen(list(dataset), 2)

    def test_a_large_photograph_is_decoded_smaller(self):
        """And shows the same."""
        tiny = ViewAugmentation(image_size=8, crop_scale=(0.9, 1.0))
        encoded = tf.constant(encode(photograph(240, 320), "JPEG"))
        image = geometric.decode_image(encoded)
        cut = tf.function(lambda uniforms: view.cut_views(encoded, [tiny], [uniforms])[0])
        crops = np.stack([cut(uniforms) for uniforms in self.uniforms[:, 0]]).astype(int)
        expected = [tiny.geometric(image, uniforms) for uniforms in self.uniforms[:, 0]]
        self.assertBetween(np.mean(np.abs(crops - np.stack(expected))), 0.2, 2.0)


if __name__ == "__main__":
    tf.test.main()
