import datetime
import re
import types
from unittest import mock

from absl.testing import absltest

from csml_tf.training import step_clock


class StepClockTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        self.now = 0.0
        clock = types.SimpleNamespace(perf_counter=lambda: self.now)
        self.enter_context(mock.patch.object(step_clock, "time", clock))
        self.found = []
        self.clock = step_clock.StepClock(self.found.append)

    def run_epoch(self, seconds):
        self.clock.on_epoch_begin(0)
        for step, duration in enumerate(seconds):
            self.now += duration
            self.clock.on_train_batch_end(step)

    def test_once_enough_is_timed(self):
        self.run_epoch([30.0, 1.0, 1.0])  # The first steps trace.
        self.run_epoch([2.0] * 7)
        self.now += 500.0  # Accuracy is measured.
        self.assertEmpty(self.found)
        self.run_epoch([2.0] * 5)
        self.assertEqual(self.found, [2.0])

    def test_a_slow_step(self):
        self.run_epoch([30.0] * 12)
        self.assertEmpty(self.found)
        self.run_epoch([30.0])
        self.assertEqual(self.found, [30.0])

    def test_announces_the_end(self):
        before = datetime.datetime.now()
        with self.assertLogs(level="INFO") as logs:
            step_clock.announce(0.5, steps_left=7_200, anchors=100)
        line = logs.output[0]
        self.assertIn("200 images/s: 1.00 hours to go, until ", line)
        end = datetime.datetime.fromisoformat(re.search("until (.{16});", line)[1])
        self.assertBetween((end - before).total_seconds(), 3_500, 3_700)


if __name__ == "__main__":
    absltest.main()
