import io
import re
import types
from unittest import mock

import tensorflow as tf

from csml_tf.training import training_bar


class TrainingBarTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.now = 100.0
        clock = types.SimpleNamespace(perf_counter=lambda: self.now)
        self.enter_context(mock.patch.object(training_bar, "time", clock))
        self.screen = self.enter_context(mock.patch("sys.stderr", io.StringIO()))

    def run_epoch(self, num_steps, epochs=2):
        """Steps of 2 s, of which 0.5 s wait; the first takes 30 s more, for the tracing."""
        bar = training_bar.TrainingBar(epochs, num_steps, global_batch_size=10)
        model = types.SimpleNamespace(input_wait_s=7.0)
        bar.set_model(model)
        bar.on_epoch_begin(0)
        self.now += 30.0
        for step in range(num_steps):
            self.now += 2.0
            model.input_wait_s += 0.5
            bar.on_train_batch_end(step, {"loss": 1.5})
        bar.on_epoch_end(0)
        return bar

    def test_speed_without_the_first_step(self):
        bar = self.run_epoch(num_steps=5)
        self.assertAlmostEqual(bar.images_per_sec, 10 / 2.0)
        self.assertAlmostEqual(bar.input_wait_fraction, 0.25)

    def test_shows_loss_and_time_left(self):
        self.run_epoch(num_steps=5)
        self.assertIn("loss 1.500, 5 images/s, input wait 25%", self.shown())
        # Five of the ten steps of both epochs are left.
        self.assertEqual(self.times_left()[-1], "0:00:10")
        self.assertIn("epoch 1/2", self.shown())

    def test_one_step_has_no_speed(self):
        bar = self.run_epoch(num_steps=1)
        self.assertIsNone(bar.images_per_sec)
        self.assertIsNone(bar.input_wait_fraction)

    def test_hours(self):
        self.run_epoch(num_steps=5, epochs=1000)
        self.assertEqual(self.times_left()[-1], "2:46:30")  # 4995 steps of 2 s.

    def times_left(self):
        return re.findall(r"run ends in ([\d:]+)", self.shown())

    def shown(self):
        return self.screen.getvalue()


if __name__ == "__main__":
    tf.test.main()
