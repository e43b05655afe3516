import json

import numpy as np
from absl.testing import absltest

from csml_tf.training.best_encoder import BestEncoder
from csml_tf.training.run_directory import RunDirectory
from tests.training import tiny_run


class Encoder:
    def __init__(self, value):
        self.weights = [np.full([2, 3], value, np.float32), np.full([4], -value, np.float32)]

    def get_weights(self):
        return self.weights

    def set_weights(self, weights):
        self.weights = weights


class BestEncoderTest(absltest.TestCase):
    def run_epochs(self, *accuracies):
        self.directory = RunDirectory(tiny_run.make_temp_dir(self.addCleanup))
        for epoch, accuracy in enumerate(accuracies, start=1):
            row = {"epoch": epoch, **({} if accuracy is None else {"knn_top1": accuracy})}
            BestEncoder(self.directory).offer(row, Encoder(epoch))
            self.directory.append_metrics(row)
        encoder = Encoder(0)
        return BestEncoder(self.directory).load(encoder), encoder

    def test_best_in_the_middle(self):
        row, encoder = self.run_epochs(0.3, None, 0.5, 0.5, 0.4)
        self.assertEqual(row, {"epoch": 4, "knn_top1": 0.5})
        for weight, expected in zip(encoder.get_weights(), Encoder(4).get_weights()):
            np.testing.assert_array_equal(weight, expected)

    def test_the_last_is_the_best(self):
        row, encoder = self.run_epochs(0.3, 0.5)
        self.assertIsNone(row)
        self.assertEqual(encoder.get_weights()[0][0, 0], 0)
        self.assertIsNone(self.run_epochs(0.5, 0.3, 0.5)[0])

    def test_a_damaged_file(self):
        self.run_epochs(0.5, 0.3)
        path = self.directory.checkpoints / "best_encoder.npz"
        path.write_bytes(path.read_bytes()[:50])
        with self.assertLogs(level="WARNING") as logs:
            self.assertIsNone(BestEncoder(self.directory).load(Encoder(0)))
        self.assertIn("best epoch, 1, cannot be read", logs.output[0])

    def test_nothing_was_measured(self):
        self.assertEqual(self.run_epochs(None, None)[0], None)
        self.assertEqual([*self.directory.checkpoints.glob("*.npz")], [])

    def test_an_epoch_that_is_done_again(self):
        """The file is newer than the metrics, whose last row a crash has taken."""
        self.run_epochs(0.3, 0.5)
        rows = [{"epoch": 1, "knn_top1": 0.3}, {"epoch": 2}]
        self.directory.metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))
        self.assertIsNone(BestEncoder(self.directory).load(Encoder(0)))


if __name__ == "__main__":
    absltest.main()
