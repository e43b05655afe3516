import io
import itertools
import re
import types
from unittest import mock

import tensorflow as tf

from csml_tf import progress
from csml_tf.training import training_bar


class TrainingBarTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.now = 100.0
        clock = types.SimpleNamespace(perf_counter=lambda: self.now)
        self.enter_context(mock.patch.object(training_bar, "time", clock))
        self.screen = io.StringIO()
        self.screen.isatty = lambda: True
        self.enter_context(mock.patch("sys.stderr", self.screen))

    def run_epoch(self, num_steps, epochs=2, first_step=0, **options):
        """Steps of 2 s, of which 0.5 s wait; the first takes 30 s more, for the tracing."""
        bar = training_bar.TrainingBar(epochs, num_steps, 10, first_step, **options)
        model = types.SimpleNamespace(input_wait_s=7.0)
        bar.set_model(model)
        bar.on_epoch_begin(0)
        self.now += 30.0
        for step in range(num_steps - first_step):
            self.now += 2.0
            model.input_wait_s += 0.5
            bar.on_train_batch_end(step, {"loss": 1.5})
        bar.on_epoch_end(0)
        bar.close()
        return bar

    def test_speed_without_the_first_step(self):
        bar = self.run_epoch(num_steps=5)
        self.assertAlmostEqual(bar.images_per_sec, 10 / 2.0)
        self.assertAlmostEqual(bar.input_wait_fraction, 0.25)

    def test_shows_loss_and_time_left(self):
        self.run_epoch(num_steps=5)
        self.assertIn("loss 1.500, 5 images/s, input wait 25%", self.shown())
        # Five of the ten steps of both epochs are left.
        self.assertEqual(self.times_left("run in")[-1], "0:00:10")
        self.assertEqual(self.times_left("epoch ends in")[-2:], ["0:00:02", "0:00:00"])
        self.assertIn("epoch 1/2", self.shown())

    def test_in_a_file(self):
        self.screen.isatty = lambda: False
        self.enter_context(mock.patch.object(progress, "time", training_bar.time))
        self.run_epoch(num_steps=15, epochs=1)
        (line,) = self.shown().splitlines()  # After 32 of 60 seconds: the first step takes 32.
        self.assertRegex(line, "^epoch 1/1: .* 1/15 steps")

    def test_one_step_has_no_speed(self):
        bar = self.run_epoch(num_steps=1)
        self.assertIsNone(bar.images_per_sec)
        self.assertIsNone(bar.input_wait_fraction)

    def test_hours(self):
        self.run_epoch(num_steps=5, epochs=1000)
        self.assertEqual(self.times_left("run in")[-1], "2:46:30")  # 4995 steps of 2 s.

    def test_goes_on_in_the_middle(self):
        bar = self.run_epoch(num_steps=5, first_step=2, timed=(3, 9.0, 6.0))
        # 2 steps more are timed, of 2 s each: the first includes the tracing.
        self.assertEqual(bar.timed, (5, 13.0, 7.0))
        self.assertAlmostEqual(bar.images_per_sec, 50 / 13.0)
        self.assertAlmostEqual(bar.input_wait_fraction, 7 / 13)
        self.assertIn("| 5/5 steps, loss 1.500", self.shown())
        self.assertIn("| 2/5 steps", self.shown())

    def test_one_step_left(self):
        bar = self.run_epoch(num_steps=5, first_step=4, timed=(3, 9.0, 6.0))
        self.assertEqual(bar.timed, (3, 9.0, 6.0))

    def test_wall_clock_that_is_set_back(self):
        now = itertools.count(2e9, -3600.0)
        with mock.patch("tqdm.std.time", lambda: next(now)):
            self.run_epoch(num_steps=5)
        self.assertIn("| 5/5 steps, loss 1.500, 5 images/s", self.shown())
        self.assertNotIn("-", self.shown())

    def times_left(self, label):
        return re.findall(rf"{label} ([\d:]+)", self.shown())

    def shown(self):
        return self.screen.getvalue()


if __name__ == "__main__":
    tf.test.main()
