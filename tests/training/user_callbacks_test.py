import tensorflow as tf

from csml_tf.errors import InputError
from csml_tf.training.run_directory import RunDirectory
from tests.training import tiny_run

STEPS = tiny_run.NUM_IMAGES // tiny_run.BATCH


class Recorder(tf.keras.callbacks.Callback):
    def __init__(self, fail_at=None):
        super().__init__()
        self.calls, self.logs, self.fail_at = [], {}, fail_at

    def note(self, call):
        self.calls.append(call)
        if call == self.fail_at:
            raise RuntimeError("the tracker is away\nfor a while")

    def on_train_begin(self, logs=None):
        self.note("begin")

    def on_train_end(self, logs=None):
        self.note("end")

    def on_epoch_begin(self, epoch, logs=None):
        self.note(f"epoch {epoch} begins")

    def on_epoch_end(self, epoch, logs=None):
        self.logs[epoch] = logs
        self.note(f"epoch {epoch} ends")

    def on_train_batch_end(self, batch, logs=None):
        assert isinstance(logs["loss"], float), logs
        self.note("step")


class Monitor:
    def is_due(self, finished_epochs, epochs):
        return True

    def measure(self, encoder):
        return {"knn_top1": 0.5}


class UserCallbacksTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.directory = tiny_run.make_temp_dir(self.addCleanup)

    def run_with(self, *callbacks, epochs=2):
        return tiny_run.run(self.directory, epochs, [Monitor()], callbacks=callbacks)

    def test_a_run_is_one_fit(self):
        recorder = Recorder()
        self.run_with(recorder)
        expected = ["begin"]
        for epoch in range(2):
            expected += [f"epoch {epoch} begins", *["step"] * STEPS, f"epoch {epoch} ends"]
        self.assertEqual(recorder.calls, [*expected, "end"])
        for epoch, row in enumerate(RunDirectory(self.directory).read_metrics()):
            self.assertEqual(recorder.logs[epoch], row)
            self.assertIn("loss_stage4_image", row)
            self.assertEqual(row["knn_top1"], 0.5)

    def test_made_by_a_function(self):
        made = []

        def make():
            made.append(Recorder())
            return made[-1]

        self.run_with(make, epochs=1)
        self.assertEqual(made[0].calls[-1], "end")

    def test_failure_is_a_sentence_and_loses_nothing(self):
        with self.assertRaisesRegex(
            InputError,
            r"^A callback failed at the end of epoch 1 \(RuntimeError: the tracker is away\): mend "
            r".*; it goes on from .*ckpt-\d+, after epoch 1\.$",
        ):
            self.run_with(Recorder("epoch 0 ends"))
        recorder = Recorder()
        self.run_with(recorder)
        self.assertEqual(recorder.calls[:2], ["begin", "epoch 1 begins"])

    def test_early_stopping(self):
        stop = tf.keras.callbacks.EarlyStopping("learning_rate", patience=1, mode="max")
        with self.assertLogs("absl", "INFO") as logs:
            self.run_with(stop, epochs=5)  # The rate falls, so epoch 2 is no better.
        self.assertIn("A callback ends the training after epoch 2.", "".join(logs.output))
        self.assertLen(RunDirectory(self.directory).read_metrics(), 2)


if __name__ == "__main__":
    tf.test.main()
