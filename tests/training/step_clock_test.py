import types
from unittest import mock

from absl.testing import absltest

from csml_tf.training import step_clock
from csml_tf.training.step_clock import Pace, StepClock


class StepClockTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        self.now = 0.0
        clock = types.SimpleNamespace(perf_counter=lambda: self.now)
        self.enter_context(mock.patch.object(step_clock, "time", clock))
        self.found = []

    def run_epoch(self, clock, seconds, epoch=0):
        clock.on_epoch_begin(epoch)
        for step, duration in enumerate(seconds):
            self.now += duration
            clock.on_train_batch_end(step)

    def test_short_epochs(self):
        """Four steps of 2 s, and 3 s between two epochs; the first steps trace."""
        clock = StepClock(4, self.found.append)
        self.run_epoch(clock, [30.0, 9.0, 9.0, 2.0])
        for epoch in (1, 2, 3):
            self.assertEmpty(self.found)
            with clock.paused():
                self.now += 100.0  # Accuracy is measured.
            self.now += 3.0
            self.run_epoch(clock, [2.0] * 4, epoch)
        self.assertEqual(self.found, [Pace(2.0, 3.0, epoch=3)])

    def test_long_epochs(self):
        clock = StepClock(1_000, self.found.append)
        self.run_epoch(clock, [30.0, 1.0, 1.0, *[1.0] * 14])
        self.assertEmpty(self.found)
        self.now += 1.0
        clock.on_train_batch_end(17)
        self.assertEqual(self.found, [Pace(1.0)])

    def test_waits_for_the_next_epoch_where_that_is_near(self):
        clock = StepClock(40, self.found.append)
        self.run_epoch(clock, [1.0] * 40)
        self.assertEmpty(self.found)
        self.now += 4.0
        self.run_epoch(clock, [1.0])
        self.assertEqual(self.found, [Pace(1.0, 4.0)])

    def test_ends_with_the_first_worker_that_has_enough(self):
        others = []
        clock = StepClock(1_000, self.found.append, lambda own: max([own, *others]))
        self.run_epoch(clock, [30.0, *[1.0] * 13])
        self.assertEmpty(self.found)
        others.append(1)
        self.now += 1.0
        clock.on_train_batch_end(14)
        self.assertEqual(self.found, [Pace(1.0)])

    def test_epochs_of_one_step(self):
        clock = StepClock(1, self.found.append)
        for duration in [30.0, *[2.0] * 10]:
            self.assertEmpty(self.found)
            self.run_epoch(clock, [duration])
        self.assertEqual(self.found, [Pace(2.0)])


if __name__ == "__main__":
    absltest.main()
