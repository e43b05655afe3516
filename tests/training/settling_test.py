"""Knobs that a recipe leaves open, with a stand-in for the recipe; nothing is trained."""

import dataclasses
from unittest import mock

import numpy as np
import tensorflow as tf
from absl import logging
from absl.testing import absltest

from csml_tf.data.sources import memory
from csml_tf.errors import InputError
from csml_tf.training import facts, precision, settling, step_clock


@dataclasses.dataclass
class Recipe:
    knobs: dict

    def fill(self, values):
        return Recipe({**self.knobs, **values})

    def assemble(self, source, strategy, center_view):
        parts = mock.Mock(global_batch_size=self.knobs["GLOBAL_BATCH_SIZE"])
        return mock.Mock(parts=parts)

    def make_center_view(self):
        return None


class SettleTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        self.addCleanup(logging.set_verbosity, logging.get_verbosity())
        logging.set_verbosity(logging.INFO)

    def settle(self, knobs, earlier=(), num_images=1_000, encoder=()):
        source = memory.MemorySource(np.zeros([num_images, 96, 128], np.uint8), name="grey")
        strategy = tf.distribute.get_strategy()
        with self.assertLogs("absl", "INFO") as logs:
            recipe = settling.settle(Recipe(knobs), source, strategy, dict(earlier), dict(encoder))
        self.lines = "\n".join(logs.output)
        return recipe.knobs

    def test_chooses_and_says_why(self):
        knobs = self.settle({"WIDTH": 8, "IMAGE_SIZE": "auto", "EPOCHS": "auto"})
        self.assertEqual((knobs["WIDTH"], knobs["EPOCHS"]), (8, 500))
        self.assertIn("EPOCHS = 500: 1,000 images, no limit of time", self.lines)
        self.assertRegex(self.lines, "IMAGE_SIZE = [0-9]+: .*shorter side is 96 px")

    def test_keeps_what_a_run_has(self):
        earlier = {"EPOCHS": "12", "BLUR_SIGMA_PX": "(0.5, 1.5)", "WIDTH": "99"}
        open_knobs = {"EPOCHS": "auto", "BLUR_SIGMA_PX": "auto", "EMA_DECAY": "auto"}
        with mock.patch.object(step_clock, "measure", side_effect=AssertionError):
            knobs = self.settle({"WIDTH": 8, "HOURS": 1, **open_knobs}, earlier)
        self.assertEqual(knobs["EPOCHS"], 12)
        self.assertEqual(knobs["BLUR_SIGMA_PX"], (0.5, 1.5))
        self.assertEqual(knobs["WIDTH"], 8)
        self.assertIn("kept: EPOCHS = 12, BLUR_SIGMA_PX = (0.5, 1.5)", self.lines)

    def test_the_network_is_that_of_the_encoder(self):
        encoder = {"BACKBONE": "resnet", "DEPTH": 34, "WIDTH": 24, "STEM": "cifar"}
        knobs = {"BACKBONE": "resnet", "DEPTH": "auto", "WIDTH": "auto", "STEM": "auto"}
        found = self.settle({**knobs, "EPOCHS": "auto", "WIDTH": 24}, encoder=encoder)
        self.assertEqual({name: found[name] for name in encoder}, encoder)
        self.assertIn("DEPTH = 34: as the encoder in --init_from", self.lines)
        self.assertNotIn("WIDTH = 24:", self.lines)
        self.assertNotIn("kept", self.lines)
        with self.assertRaisesRegex(
            InputError, "^WIDTH = 8 is not that of the encoder .*, which has WIDTH = 24: give this"
        ):
            self.settle({**knobs, "WIDTH": 8}, encoder=encoder)
        # A run that goes on has taken them long ago.
        earlier = {"DEPTH": "34", "WIDTH": "24", "STEM": "'cifar'"}
        self.settle(knobs, earlier=earlier)
        self.assertIn("kept: DEPTH = 34, WIDTH = 24, STEM = 'cifar'", self.lines)

    def test_what_another_network_does_not_have_is_not_said(self):
        open_knobs = {"DEPTH": "auto", "WIDTH": "auto", "STEM": "auto", "IMAGE_SIZE": "auto"}
        self.settle({"BACKBONE": "MobileNetV3Small", **open_knobs})
        self.assertIn("IMAGE_SIZE = ", self.lines)
        self.assertNotRegex(self.lines, "DEPTH|WIDTH|STEM")

    def test_time_is_shared_out_by_measured_steps(self):
        given = {"HOURS": 1, "GLOBAL_BATCH_SIZE": 100, "EPOCHS": "auto", "NUM_NEGATIVES": "auto"}
        with mock.patch.object(step_clock, "measure", return_value=step_clock.Pace(2.0, 5.0)):
            knobs = self.settle(given)
        self.assertEqual(knobs["EPOCHS"], 132)  # An epoch takes 20 s and 5 s; there are 3312 s.
        self.assertIn("at 50 images a second (measured)", self.lines)

    def test_bfloat16_is_timed_where_it_is_asked_for(self):
        with mock.patch.object(precision, "bfloat16_gain", return_value=1.5004) as gain:
            self.assertEqual(self.settle({"PRECISION": "auto"})["PRECISION"], "mixed_bfloat16")
            self.assertIn("PRECISION = 'mixed_bfloat16': this CPU convolves", self.lines)
            gain.reset_mock()
            kept = self.settle({"PRECISION": "auto"}, {"PRECISION": "'float32'"})
            self.assertEqual(kept["PRECISION"], "float32")
            self.settle({"EPOCHS": "auto"})
            gain.assert_not_called()

    def test_config_that_somebody_has_edited(self):
        for text in ("%MINE", "12 or so", "7 +"):
            with self.assertRaisesRegex(InputError, "config.gin has no value for EPOCHS .*back"):
                self.settle({"EPOCHS": "auto"}, {"EPOCHS": text})

    def test_other_knobs_have_no_automatic_value(self):
        with self.assertRaisesRegex(InputError, "SEED has no automatic value: give it one"):
            self.settle({"SEED": "auto"})

    def test_nothing_open(self):
        recipe = Recipe({"WIDTH": 8})
        self.assertIs(settling.settle(recipe, None, None, {}), recipe)

    def test_facts(self):
        source = memory.MemorySource(np.zeros([7, 96, 128], np.uint8), name="grey")
        found = facts.collect(source, tf.distribute.get_strategy())
        self.assertEqual((found.num_images, found.short_side_px, found.replicas), (7, 96, 1))
        self.assertGreaterEqual(found.num_cpus, 1)


if __name__ == "__main__":
    absltest.main()
