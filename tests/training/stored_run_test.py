"""A run whose directory lies on an object store."""

import os
from unittest import mock

import numpy as np
import tensorflow as tf

from csml_tf import leases
from csml_tf.training import checkpoint
from csml_tf.training.stop_signals import Stopped
from tests import ram_store
from tests.training import run_state, tiny_run

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
