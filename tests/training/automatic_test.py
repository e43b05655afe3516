"""The table of what images and machines get, and what follows a knob that is given."""

import math

from absl.testing import absltest, parameterized

from csml_tf.errors import InputError
from csml_tf.training import automatic
from csml_tf.training.automatic import Facts

# (images, shorter side, CPU cores, GPUs, hours): some of the choices.
TABLE = (
    # What has been measured, in half an hour on two cores.
    ((9_469, 96, 2, 0, 0.5), (64, "imagenet", 18, 16, 256, 8, 2048, 58, 0.99, 0.06)),
    ((50, 300, 2, 0, None), (64, "imagenet", 18, 16, 16, 2, 32, 500, 0.99, 0.24)),
    ((500, 300, 2, 0, None), (64, "imagenet", 18, 16, 32, 2, 64, 500, 0.99, 0.1697)),
    ((50_000, 32, 2, 0, None), (32, "cifar", 18, 16, 256, 8, 8192, 100, 0.99, 0.06)),
    ((5_000_000, 300, 2, 0, None), (64, "imagenet", 18, 16, 256, 8, 65536, 2, 0.99, 0.06)),
    ((3_000, 300, 16, 1, None), (224, "imagenet", 18, 64, 256, 8, 512, 333, 0.99, 0.06)),
    ((100_000, 300, 16, 1, None), (224, "imagenet", 50, 64, 256, 8, 16384, 100, 0.99, 0.06)),
)
KNOBS = (
    *("IMAGE_SIZE", "STEM", "DEPTH", "WIDTH", "GLOBAL_BATCH_SIZE", "BN_GROUPS", "NUM_NEGATIVES"),
    *("EPOCHS", "EMA_DECAY", "LEARNING_RATE"),
)


def choose(num_images=9_469, side=96, cpus=2, gpus=0, replicas=1, **given):
    choices = automatic.choose(Facts(num_images, side, cpus, gpus, replicas), given)
    return {name: choice.value for name, choice in choices.items()}


class ChooseTest(parameterized.TestCase):
    @parameterized.parameters(*TABLE)
    def test_table(self, facts, expected):
        *facts, hours = facts
        actual = choose(*facts, HOURS=hours)
        self.assertEqual({name: actual[name] for name in KNOBS}, dict(zip(KNOBS, expected)))

    @parameterized.product(
        num_images=[20, 50, 60, 333, 3_781, 9_469, 100_000, 1_281_167, 5_000_000],
        side=[8, 28, 32, 64, 96, 150, 500],
        device=[(1, 0, 1), (2, 0, 1), (64, 0, 1), (16, 1, 1), (96, 8, 8), (24, 3, 3)],
    )
    def test_fits_together(self, num_images, side, device):
        cpus, gpus, replicas = device
        chosen = choose(num_images, side, cpus, gpus, replicas)
        batch, groups = chosen["GLOBAL_BATCH_SIZE"], chosen["BN_GROUPS"]
        self.assertLessEqual(batch, num_images)
        self.assertEqual((batch % groups, groups % replicas), (0, 0))
        self.assertGreater(batch // groups, 1)
        if num_images >= 160 * replicas:
            self.assertGreaterEqual(num_images // batch, 10)
        self.assertBetween(chosen["NUM_NEGATIVES"], batch + 1, max(num_images // 4, 2 * batch))
        self.assertLessEqual(chosen["IMAGE_SIZE"], max(side, 32))
        self.assertEqual(chosen["STEM"], "cifar" if chosen["IMAGE_SIZE"] < 64 else "imagenet")
        self.assertBetween(chosen["EMA_DECAY"], 0.5, 0.999)
        self.assertGreaterEqual(chosen["EPOCHS"], 1)
        self.assertBetween(chosen["MONITOR_EVERY_EPOCHS"], 1, chosen["EPOCHS"])
        low, high = chosen["BLUR_SIGMA_PX"]
        self.assertAlmostEqual(high, 2.0 * chosen["IMAGE_SIZE"] / 224, places=3)
        self.assertBetween(low, 1e-3, high)

    def test_given_knobs_are_kept_and_followed(self):
        chosen = choose(GLOBAL_BATCH_SIZE=100, EPOCHS=7, IMAGE_SIZE=48)
        self.assertNoCommonElements(chosen, ("GLOBAL_BATCH_SIZE", "EPOCHS", "IMAGE_SIZE"))
        self.assertEqual(chosen["STEM"], "cifar")
        self.assertEqual(chosen["BN_GROUPS"], 2)  # 100 is no multiple of 3, and 25 are few.
        # 94 steps an epoch, 658 in all, of which the average remembers a tenth.
        self.assertEqual(chosen["EMA_DECAY"], round(1 - 10 / 658, 4))
        self.assertEqual(chosen["LEARNING_RATE"], round(0.06 * math.sqrt(2.56), 4))
        self.assertEqual(chosen["MONITOR_EVERY_EPOCHS"], 1)

    def test_a_wider_network_gets_fewer_epochs(self):
        self.assertLess(choose(HOURS=1, WIDTH=64)["EPOCHS"], choose(HOURS=1, WIDTH=16)["EPOCHS"])

    @parameterized.parameters(
        (0, 1.0, "float32", "no instructions for bfloat16"),
        (0, 1.1, "float32", "1.1 times as fast"),
        (0, 1.8, "mixed_bfloat16", "1.8 times as fast"),
        (1, 1.8, "float32", "on CPUs only"),
    )
    def test_precision(self, gpus, gain, expected, reason):
        facts = Facts(1_000, 96, num_cpus=2, num_gpus=gpus, bfloat16_gain=gain)
        choice = automatic.choose(facts, {})["PRECISION"]
        self.assertEqual(choice.value, expected)
        self.assertIn(reason, choice.reason)

    def test_measured_speed_decides(self):
        facts = Facts(1_000, 96, num_cpus=2, anchors_per_sec=10.0, between_epochs_s=20.0)
        choices = automatic.choose(facts, {"HOURS": 1})
        self.assertEqual(choices["EPOCHS"].value, int(0.92 * 3600 / (1_000 / 10 + 20)))
        self.assertIn("10 images a second (measured)", choices["EPOCHS"].reason)
        # An estimate may be wrong, and refuses nobody.
        self.assertEqual(choose(5_000_000, HOURS=1)["EPOCHS"], 1)

    @parameterized.parameters(
        ((3, 100, 2), {}, "3 images are too few to learn from: give at least 20"),
        ((1, 100, 2), {}, "1 image is too few to learn from: give at least 20"),
        ((500, 100, 2, 0, 1, 99.0), {"HOURS": 0.001}, "HOURS = 0.001 is too short .* raise HOURS"),
        ((5_000_000, 300, 2, 0, 1, 400.0), {"HOURS": 1}, "HOURS = 1 is too short for one epoch"),
    )
    def test_rejects(self, facts, given, message):
        with self.assertRaisesRegex(InputError, message) as caught:
            automatic.choose(Facts(*facts), given)
        self.assertNotIn("\n", str(caught.exception))


class SpeedTest(absltest.TestCase):
    def test_what_was_measured(self):
        """330 to 370 anchors a second at width 16 and 64 px on two cores."""
        speed = automatic.anchors_per_sec(Facts(9_469, 96, 2), 18, 16, 64, "imagenet")
        self.assertBetween(speed, 330, 370)


if __name__ == "__main__":
    absltest.main()
