"""A run whose directory lies on an object store."""

import os
import types
from unittest import mock

import numpy as np
import tensorflow as tf
from absl.testing import absltest

from csml_tf import leases
from csml_tf.errors import InputError
from csml_tf.training import checkpoint, checkpoint_files, run_directory
from csml_tf.training.best_encoder import BestEncoder
from csml_tf.training.run_directory import RunDirectory
from csml_tf.training.stop_signals import Stopped
from tests import ram_store
from tests.training import run_directory_test, run_state, tiny_run

EPOCHS = 2


class StoredRunTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.enter_context(mock.patch.object(leases, "SETTLE_S", 0.0))
        self.folder = ram_store.make_folder(self.addCleanup) / "run"

    def test_stopped_run_ends_like_an_undisturbed_local_one(self):
        local = tiny_run.make_temp_dir(self.addCleanup)
        tiny_run.run(local, EPOCHS)
        with tiny_run.signal_after_step(1, 1), self.assertRaisesRegex(Stopped, "step 2 of epoch 2"):
            tiny_run.run(self.folder, EPOCHS)
        self.assertEqual(checkpoint.find_progress(self.folder / "checkpoints").step, 2)
        with self.assertLogs("absl", "INFO") as logs:
            tiny_run.run(self.folder, EPOCHS)
        self.assertIn("Going on from ram://", "".join(logs.output))
        expected, actual = run_state.load(local), run_state.load(self.folder)
        self.assertEqual(expected.keys(), actual.keys())
        for name, value in expected.items():
            np.testing.assert_array_equal(actual[name], value, name)
        self.assertEqual(run_state.figures(self.folder), run_state.figures(local))
        # The lease is gone, and so are the checkpoints of longer ago.
        names = {name.partition("/")[0] for name in ram_store.files(self.folder)}
        self.assertEqual(names, {"checkpoints", "config.gin", "metrics.jsonl", "tensorboard"})
        self.assertFalse(os.path.exists("ram:"))

    def test_goes_on_on_another_disk(self):
        """A run that is moved between a disk and a store goes on there."""
        local = tiny_run.make_temp_dir(self.addCleanup)
        with tiny_run.signal_after_step(0, 0), self.assertRaises(Stopped):
            tiny_run.run(local, EPOCHS)
        ram_store.copy(local, self.folder)
        tiny_run.run(self.folder, EPOCHS)
        tiny_run.run(local, EPOCHS)
        self.assertEqual(run_state.figures(self.folder), run_state.figures(local))


class StoredRunDirectoryTest(absltest.TestCase):
    """The files of a run on a store, one by one."""

    def setUp(self):
        super().setUp()
        self.folder = ram_store.make_folder(self.addCleanup)
        self.directory = RunDirectory(self.folder / "runs" / "one")

    def test_refused_start_leaves_nothing(self):
        source = types.SimpleNamespace(name="digits", fingerprint="0123abcd")
        self.directory.claim("EPOCHS = 1\n", source)
        self.assertEqual(run_directory.find(str(self.directory.path)).path, self.directory.path)
        self.directory.leave()
        self.assertFalse(self.directory.path.parent.exists())
        with self.assertRaisesRegex(InputError, "^There is no run in ram://.*/one, which has no"):
            run_directory.find(str(self.directory.path))

    def test_metrics(self):
        self.assertEqual(self.directory.read_metrics(), [])
        expected = run_directory_test.write_two_rows(self.directory)
        self.assertEqual(self.directory.read_metrics(), expected)
        cut = ram_store.read(self.directory.metrics) + b'{"epoch": 3, "lo'
        ram_store.write(self.directory.metrics, cut)
        self.directory.append_metrics({"epoch": 3})
        self.assertEqual(self.directory.read_metrics(), [*expected, {"epoch": 3}])

    def test_best_encoder(self):
        encoder = mock.Mock(get_weights=lambda: [np.full([2, 3], weight)])
        for epoch, accuracy in ((1, 0.3), (2, 0.5), (3, 0.4)):
            row, weight = {"epoch": epoch, "knn_top1": accuracy}, epoch
            BestEncoder(self.directory).offer(row, encoder)
            self.directory.append_metrics(row)
        self.assertEqual(BestEncoder(self.directory).load(encoder), {"epoch": 2, "knn_top1": 0.5})
        ((weights,), _) = encoder.set_weights.call_args
        np.testing.assert_array_equal(weights, [np.full([2, 3], 2)])

    def test_places_that_cannot_be_used(self):
        denied = tf.errors.PermissionDeniedError(None, None, "no access")
        with (
            mock.patch.object(tf.io.gfile, "makedirs", side_effect=denied),
            self.assertRaisesRegex(InputError, r"run cannot be made \(no access\): choose another"),
        ):
            RunDirectory(self.folder / "run")

    def test_checkpoints(self):
        files = checkpoint_files.CheckpointFiles(self.directory.checkpoints)
        for number in (1, 2, 10):
            tf.train.Checkpoint(a=tf.Variable(number)).write(files.prefix(number))
            files.settle(number)
        ram_store.write(f"{files.directory}/ckpt-11_temp/part")
        ram_store.write(f"{files.directory}/other")
        self.assertEqual(files.numbers(), [1, 2, 10])
        newest = tf.train.latest_checkpoint(str(files.directory))
        self.assertEqual(newest, files.prefix(10))
        self.assertIsNone(files.find_damage(10))
        data = f"{files.prefix(10)}.data-00000-of-00001"
        ram_store.write(data, ram_store.read(data)[:-1] + b"x")
        self.assertRegex(files.find_damage(10), "(?i)checksum|corrupt|read")
        files.keep_only([2])
        names = {name.partition(".")[0] for name in ram_store.files(files.directory)}
        self.assertEqual(names, {"ckpt-2", "checkpoint", "other"})


if __name__ == "__main__":
    absltest.main()
