import itertools
import re

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from csml_tf.augment import one_by_one, photometric
from tests.augment import loop_colors

PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
NAMES = ("brightness", "contrast", "saturation", "hue")


class FinishTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        rng = np.random.default_rng(0)
        self.images = rng.integers(0, 256, [24, 9, 9, 3], np.uint8)
        self.strengths = {
            "brightness": rng.uniform(0.6, 1.5, [24]),
            "contrast": rng.uniform(0.4, 1.6, [24]),
            "saturation": rng.uniform(0.2, 1.8, [24]),
            "hue": rng.uniform(-0.4, 0.4, [24]),
        }
        # Some images have one operation or two, some none.
        self.strengths["brightness"][[3, 4, 7]] = 1.0
        self.strengths["contrast"][[3, 5, 7]] = 1.0
        self.strengths["saturation"][[3, 4, 7]] = 1.0
        self.strengths["hue"][[4, 5, 7]] = 0.0
        self.orders = rng.permutation(24)

    def finish(self, draws, max_sigma_px=2.0, mean=PLAIN["mean"], std=PLAIN["std"]):
        def as_tensor(values):
            values = np.asarray(values)
            return tf.constant(values, tf.float32 if values.dtype == float else None)

        draws = [(n, {k: as_tensor(v) for k, v in rows.items()}) for n, rows in draws]
        return one_by_one.finish(self.images, draws, max_sigma_px, mean, std).numpy()

    def jitter(self, used=NAMES):
        strengths = {name: self.strengths[name] for name in used}
        expected = [
            loop_colors.jitter(image / 255, order, {n: s[i] for n, s in strengths.items()})
            for i, (image, order) in enumerate(zip(self.images, self.orders))
        ]
        return {"orders": self.orders.astype(np.int32), **strengths}, np.stack(expected)

    @parameterized.parameters(
        *itertools.chain.from_iterable(itertools.combinations(NAMES, n) for n in (1, 2, 3, 4))
    )
    def test_jitter_matches_loops_in_all_orders(self, *used):
        strengths, expected = self.jitter(used)
        actual = self.finish([("color_jitter", strengths)])
        self.assertAllClose(actual, expected, rtol=0, atol=2e-5)

    def test_all_in_a_row_match_loops(self):
        strengths, expected = self.jitter()
        is_gray, is_solarized = np.arange(24) % 3 == 0, np.arange(24) % 4 == 1
        sigmas_px = np.where(np.arange(24) % 2, np.linspace(0.1, 1.5, 24), 0.0)
        mean, std = np.array([0.4, 0.5, 0.3]), np.array([0.2, 0.3, 0.1])
        for i in range(24):
            if is_gray[i]:
                expected[i] = (expected[i] @ loop_colors.LUMA)[..., None]
            if sigmas_px[i] > 0:
                expected[i] = loop_colors.blur(expected[i], sigmas_px[i], radius=6)
            if is_solarized[i]:
                expected[i] = np.where(expected[i] >= 127.5 / 255, 1 - expected[i], expected[i])
        draws = [
            ("color_jitter", strengths),
            ("to_grayscale", {"is_gray": is_gray}),
            ("gaussian_blur", {"sigmas_px": sigmas_px}),
            ("solarize", {"is_solarized": is_solarized}),
        ]
        actual = self.finish(draws, 1.5, tuple(mean), tuple(std))
        # A value at the threshold may fall to either side.
        wrong = np.abs(actual * std + mean - expected) > 2e-5
        self.assertLess(wrong.mean(), 1e-3)

    def test_grayscale_stands_where_it_is_said_to(self):
        strengths, _ = self.jitter(("hue", "saturation"))
        gray = ("to_grayscale", {"is_gray": np.ones([24], bool)})
        first = self.finish([gray, ("color_jitter", strengths)])
        last = self.finish([("color_jitter", strengths), gray])
        luma = self.images / 255 @ loop_colors.LUMA
        self.assertAllClose(first, np.repeat(luma[..., None], 3, -1), rtol=0, atol=2e-5)
        self.assertGreater(np.abs(first - last).max(), 0.01)

    def test_what_changes_nothing_leaves_an_image_exactly_as_it_is(self):
        draws = [
            (
                "color_jitter",
                {
                    "orders": np.arange(24, dtype=np.int32),
                    **dict.fromkeys(NAMES[:3], np.ones([24])),
                    "hue": np.zeros([24]),
                },
            ),
            ("to_grayscale", {"is_gray": np.zeros([24], bool)}),
            ("gaussian_blur", {"sigmas_px": np.zeros([24])}),
            ("solarize", {"is_solarized": np.zeros([24], bool)}),
        ]
        self.assertAllEqual(self.finish(draws), self.finish([]))
        self.assertAllEqual(self.finish([]), self.images * np.float32(1 / 255))

    def test_an_image_does_not_depend_on_the_others(self):
        strengths, _ = self.jitter()
        sigmas_px = np.linspace(0, 1.5, 24)
        draws = [("color_jitter", strengths), ("gaussian_blur", {"sigmas_px": sigmas_px})]
        together = self.finish(draws)
        self.images = self.images[5:8]
        alone = self.finish([(n, {k: v[5:8] for k, v in rows.items()}) for n, rows in draws])
        self.assertAllEqual(alone, together[5:8])

    def test_border_of_the_blur_repeats(self):
        self.images = np.full([2, 5, 5, 3], 200, np.uint8)
        actual = self.finish([("gaussian_blur", {"sigmas_px": np.array([2.0, 0.3])})])
        self.assertAllClose(actual, np.full_like(actual, 200 / 255), rtol=0, atol=1e-6)

    def test_is_compiled_once_for_equal_settings(self):
        draws = [("to_grayscale", {"is_gray": np.ones([24], bool)})]
        self.finish(draws)
        before = one_by_one._finish_planes.experimental_get_tracing_count()
        self.finish(draws)
        self.assertEqual(one_by_one._finish_planes.experimental_get_tracing_count(), before)
        self.finish([])
        self.assertEqual(one_by_one._finish_planes.experimental_get_tracing_count(), before + 1)

    def test_is_not_compiled_anew_for_other_draws(self):
        """What XLA takes for a constant is no parameter of what it compiles."""
        names = ("color_jitter", "to_grayscale", "gaussian_blur", "solarize")
        floats, bools = tf.ones([24]), tf.ones([24], tf.bool)
        jitter = {"orders": tf.range(24), **dict.fromkeys(NAMES, floats)}
        draws = [jitter, {"is_gray": bools}, {"sigmas_px": floats}, {"is_solarized": bools}]
        moments = tf.zeros([3]), tf.ones([3])
        compiler_ir = one_by_one._finish_planes.experimental_get_compiler_ir(
            self.images, draws, *moments, names, 2.0
        )
        layout = compiler_ir(stage="hlo").splitlines()[0]
        parameters = re.findall(r"(u8|f32|s32|pred)\[", layout.partition("->")[0])
        self.assertCountEqual(parameters, ["u8", "s32", *["f32"] * 7, *["pred"] * 2])


class OrdersTest(tf.test.TestCase):
    def test_every_order_of_the_four_once(self):
        orders = [tuple(order) for order in photometric.jitter_orders()]
        self.assertLen(orders, photometric.NUM_JITTER_ORDERS)
        self.assertCountEqual(orders, itertools.permutations(NAMES))


if __name__ == "__main__":
    tf.test.main()
