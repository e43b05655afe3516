import types
from unittest import mock

import tensorflow as tf
from absl.testing import parameterized

from csml_tf.methods.running_means import RunningMeans
from csml_tf.training.checkpoint import Progress
from csml_tf.training.epoch_row import EpochRow
from csml_tf.training.mid_epoch import MidEpoch
from csml_tf.training.stop_signals import Stopped, StopSignals

NUM_STEPS = 10


class MeanModel(tf.keras.Model):
    """Its loss is the mean of its inputs; its weights never change."""

    def __init__(self):
        super().__init__()
        self.means = RunningMeans(["loss"])
        self.compile()

    def reset_metrics(self):
        self.means.reset()

    def train_step(self, value):
        return self.means.update({"loss": value})


class MidEpochTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.calls = mock.Mock()
        self.stops = StopSignals()
        self.model = MeanModel()

    def fit(self, first_step=0, save_every=0, signal_at=None):
        begun = Progress(4, first_step, {"neighbor_purity": 0.25, "seconds": 1000.0})
        row = EpochRow(begun, NUM_STEPS, 0.5)
        bar = types.SimpleNamespace(timed=(1, 2.0, 3.0))
        saver = MidEpoch(
            *(begun, row, NUM_STEPS, save_every),
            *(self.calls.guard, bar, self.calls.checkpoints, self.stops),
        )

        def receive(batch, logs):
            if signal_at == first_step + batch + 1:
                self.stops._note(15, None)

        values = tf.data.Dataset.range(first_step, NUM_STEPS).map(lambda i: tf.cast(i, tf.float32))
        callbacks = [tf.keras.callbacks.LambdaCallback(on_train_batch_end=receive), saver]
        self.model.fit(values, callbacks=callbacks, verbose=0)

    def saved(self):
        return [call.args[0] for call in self.calls.checkpoints.save.call_args_list]

    @parameterized.parameters((0, 3, [3, 6, 9]), (4, 3, [6, 9]), (0, 5, [5]), (0, 0, []))
    def test_saves_every_few_steps(self, first_step, save_every, steps):
        self.fit(first_step, save_every)
        self.assertEqual([progress.step for progress in self.saved()], steps)
        for progress in self.saved():
            self.assertEqual((progress.epoch, progress.timed), (4, (1, 2.0, 3.0)))
            row = dict(progress.row)
            self.assertBetween(row.pop("seconds"), 1000.0, 1100.0)
            expected = {"epoch": 5, "step": 50, "learning_rate": 0.5, "neighbor_purity": 0.25}
            self.assertEqual(row, expected)
        guarded = [call[0] for call in self.calls.mock_calls]
        self.assertEqual(guarded, ["guard.check", "checkpoints.save"] * len(steps))

    def test_stops_after_the_running_step(self):
        with self.assertRaisesRegex(Stopped, "^Stopped by SIGTERM at step 7 of epoch 5: repeat"):
            self.fit(4, 0, signal_at=7)
        self.assertEqual([progress.step for progress in self.saved()], [7])
        self.assertEqual(self.model.means.result()["loss"], (4 + 5 + 6) / 3)

    def test_first_step_is_not_waited_for(self):
        with self.assertRaisesRegex(Stopped, "SIGTERM while making the first step, which will"):
            self.fit(4, 1, signal_at=5)
        self.assertEmpty(self.saved())

    def test_last_step_is_left_to_what_follows(self):
        self.fit(4, 0, signal_at=10)
        self.assertEmpty(self.saved())
        self.assertEqual(self.stops.received, 15)

    def test_nothing_is_saved_where_the_guard_objects(self):
        self.calls.guard.check.side_effect = ValueError("nan")
        with self.assertRaisesRegex(ValueError, "nan"):
            self.fit(0, 3)
        self.assertEmpty(self.saved())

    def test_running_means_go_on(self):
        for value in (0.0, 1.0, 2.0):
            self.model.means.update({"loss": value})
        self.fit(first_step=3)
        self.assertEqual(self.model.means.result()["loss"], sum(range(10)) / 10)
        self.model.means.update({"loss": 1000.0})
        self.fit()  # And begin anew with an epoch.
        self.assertEqual(self.model.means.result()["loss"], sum(range(10)) / 10)


if __name__ == "__main__":
    tf.test.main()
