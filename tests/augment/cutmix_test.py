import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from scipy import stats

from csml_tf.augment import cutmix


def loop_boxes(uniforms, height, width, alpha):
    boxes = []
    for kept_uniform, row_uniform, column_uniform in uniforms.astype(np.float64):
        side = np.sqrt(1.0 - stats.beta.ppf(kept_uniform, alpha, alpha))
        box_height, box_width = int(height * side), int(width * side)
        row, column = int(row_uniform * height), int(column_uniform * width)
        boxes.append(
            [
                np.clip(row - box_height // 2, 0, height),
                np.clip(column - box_width // 2, 0, width),
                np.clip(row + box_height // 2, 0, height),
                np.clip(column + box_width // 2, 0, width),
            ]
        )
    return np.array(boxes)


class BoxesTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.product(alpha=[0.2, 1.0, 2.0], size=[(224, 224), (32, 48)])
    def test_matches_loops(self, alpha, size):
        uniforms = np.random.default_rng(0).uniform(size=[500, 3]).astype("float32")
        actual = cutmix.boxes_from_uniforms(uniforms, *size, alpha).numpy()
        expected = loop_boxes(uniforms, *size, alpha)
        # A side next to an integer, often 1 for a small alpha, may be cut off elsewhere.
        self.assertGreater(np.mean(np.all(actual == expected, axis=1)), 0.95)
        self.assertAllClose(actual, expected, rtol=0, atol=1)

    @parameterized.parameters(0.1, 0.3, 1.0, 2.0, 10.0, 100.0)
    def test_quantiles_are_those_of_beta(self, alpha):
        ends = [0.0, 1e-6, 1.0 - 1e-6, 1.0 - 2.0**-24]
        uniforms = np.concatenate([np.linspace(0.0, 1.0, 1001)[1:-1], ends]).astype("float32")
        actual = cutmix._symmetric_beta_quantiles(uniforms, alpha)
        # Below 2^-24 the distribution is not drawn from, whatever lies there.
        expected = stats.beta.ppf(np.clip(uniforms, 2.0**-24, None), alpha, alpha)
        self.assertAllClose(actual, expected, rtol=0, atol=1e-4)

    def test_areas_are_drawn_from_beta(self):
        """CsMl's: Beta(2, 2)."""
        uniforms = tf.random.stateless_uniform([10000, 3], [0, 1]).numpy()
        uniforms[:, 1:] = 0.5  # A box in the middle is not clipped.
        boxes = cutmix.boxes_from_uniforms(uniforms, 4096, 4096, alpha=2.0)
        kept = cutmix.area_fractions(boxes, 4096, 4096)
        self.assertGreater(stats.kstest(kept, stats.beta(2, 2).cdf).pvalue, 0.001)

    def test_uniform_areas_for_alpha_1(self):
        uniforms = np.random.default_rng(0).uniform(size=[100]).astype("float32")
        self.assertAllClose(cutmix._symmetric_beta_quantiles(uniforms, 1.0), uniforms, atol=1e-6)

    def test_boxes_lie_inside_at_the_ends_of_the_uniforms(self):
        ends = np.array([0.0, 1.0 - 2.0**-24], np.float32)
        uniforms = np.array(np.meshgrid(ends, ends, ends)).reshape([3, -1]).T
        boxes = cutmix.boxes_from_uniforms(uniforms, 32, 48, alpha=2.0).numpy()
        self.assertAllGreaterEqual(boxes, 0)
        self.assertTrue(np.all(boxes <= [32, 48, 32, 48]))
        self.assertAllGreaterEqual(boxes[:, 2:] - boxes[:, :2], 0)

    def test_centers_are_uniform_pixels(self):
        uniforms = np.random.default_rng(0).uniform(size=[10000, 3]).astype("float32")
        uniforms[:, 0] = 0.99  # Boxes of two pixels, [center - 1, center + 1).
        boxes = cutmix.boxes_from_uniforms(uniforms, 11, 12, alpha=2.0).numpy()
        for size, ends in ((11, boxes[:, 2]), (12, boxes[:, 3])):
            counts = np.bincount(ends - 1, minlength=size)
            self.assertLen(counts, size)
            self.assertGreater(stats.chisquare(counts).pvalue, 0.001)

    @parameterized.parameters(True, False)
    def test_same_seed_same_boxes(self, jit_compile):
        @tf.function(jit_compile=jit_compile)
        def draw(seed):
            return cutmix.random_boxes(seed, 5, 32, 32, alpha=2.0)

        boxes = draw(tf.constant([1, 2]))
        self.assertEqual(boxes.dtype, tf.int32)
        self.assertAllEqual(boxes, draw(tf.constant([1, 2])))
        self.assertNotAllEqual(boxes, draw(tf.constant([1, 3])))

    def test_rejects_alpha_0(self):
        with self.assertRaisesRegex(ValueError, "alpha must be above 0, got 0"):
            cutmix.random_boxes([0, 0], 1, 32, 32, alpha=0)


class CutMixTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        rng = np.random.default_rng(0)
        self.images = rng.uniform(size=[6, 8, 11, 3]).astype("float32")
        self.partners = rng.uniform(size=[6, 8, 11, 3]).astype("float32")

    @parameterized.product(num_boxes=[1, 6], jit_compile=[True, False])
    def test_matches_loops(self, num_boxes, jit_compile):
        boxes = cutmix.random_boxes([0, 2], num_boxes, 8, 11, alpha=2.0).numpy()
        expected = self.images.copy()
        for i, mixed in enumerate(expected):
            top, left, bottom, right = boxes[i % num_boxes]
            mixed[top:bottom, left:right] = self.partners[i, top:bottom, left:right]
        run = tf.function(cutmix.cutmix, jit_compile=jit_compile)
        actual = run(self.images, self.partners, boxes)
        self.assertAllEqual(actual, expected)
        self.assertNotAllEqual(actual, self.images)

    def test_area_fraction_is_the_share_that_is_left(self):
        boxes = cutmix.random_boxes([0, 3], 6, 8, 11, alpha=2.0)
        mixed = cutmix.cutmix(tf.zeros([6, 8, 11, 1]), tf.ones([6, 8, 11, 1]), boxes)
        fractions = cutmix.area_fractions(boxes, 8, 11)
        self.assertAllClose(fractions, 1.0 - tf.reduce_mean(mixed, axis=[1, 2, 3]))

    def test_an_empty_box_changes_nothing(self):
        boxes = tf.constant([[3, 3, 3, 3]])
        self.assertAllEqual(cutmix.cutmix(self.images, self.partners, boxes), self.images)
        self.assertAllEqual(cutmix.area_fractions(boxes, 8, 11), [1.0])


if __name__ == "__main__":
    tf.test.main()
