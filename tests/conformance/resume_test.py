"""Runs of one seed end alike, bit for bit, and so does one that was killed or stopped."""

import functools
import pathlib
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from tests.training import run_state, tiny_run

ROOT = pathlib.Path(__file__).parents[2]
SEED = 0
NUM_KILLS = 5
DEADLINE_S = 400
# 3 epochs of 22 steps, of which the first and the third begin with a mining.
BINDINGS = (
    *("EPOCHS = 3", "WIDTH = 1", "MINE_EVERY_EPOCHS = 2", "NEIGHBOR_WARMUP_EPOCHS = 1"),
    *("MONITOR_EVERY_EPOCHS = 1", "CHECKPOINT_EVERY_STEPS = 5"),
)
# Large enough for the threads of a step to come in another order each time: 2 steps in an epoch.
LARGE_BINDINGS = (
    *("EPOCHS = 3", "WIDTH = 8", "DATASET = 'digits'", "NUM_NEGATIVES = 1024"),
    *("MONITOR_EVERY_EPOCHS = 3", "WARMUP_SHARE = 0.3"),
)
# Of the other base methods: 2 epochs of 22 steps on digits, each with what its recipe has and this.
BASES = {
    "simclr_csml": (),
    "byol_csml": (),
    "moco_v3": (),
    "swav_csml": ("NUM_PROTOTYPES = 32", "QUEUE_LENGTH = 64", "SwAV.queue_from_epoch = 0"),
}
BASE_BINDINGS = (
    *("DATASET = 'digits'", "EPOCHS = 2", "WIDTH = 1", "GLOBAL_BATCH_SIZE = 64"),
    *("HEAD_HIDDEN_DIM = 16", "EMBEDDING_DIM = 16", "CHECKPOINT_EVERY_STEPS = 5"),
    *("IMAGE_SIZE = 16", "KnnEvaluation.k = 20", "MONITOR_EVERY_EPOCHS = 2"),
)
OF_NEIGHBORS = ("NEIGHBOR_WARMUP_EPOCHS = 1", "MINE_EVERY_EPOCHS = 1")


class RunTest(tf.test.TestCase, parameterized.TestCase):
    @classmethod
    def start(cls, directory, recipe="quickstart.gin", bindings=BINDINGS):
        command = [sys.executable, "tools/train.py", f"--gin_file={recipe}"]
        command += [f"--model_dir={directory}", *(f"--gin_bindings={line}" for line in bindings)]
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        cls.addClassCleanup(process.kill)
        return process

    def wait_for_checkpoint(self, process, directory, number):
        """-> whether the process came so far before it ended."""
        deadline = time.monotonic() + DEADLINE_S
        while newest_number(directory) < number:
            if process.poll() is not None:
                return False
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.01)
        return True

    @staticmethod
    def finish(process):
        """-> (exit code, text on stderr)."""
        _, text = process.communicate(timeout=DEADLINE_S)
        return process.returncode, text

    def check_ends_alike(self, whole, directory):
        expected, actual = (run_state.load(path) for path in (whole, directory))
        self.assertEqual(expected.keys(), actual.keys())
        for name, value in expected.items():
            self.assertEqual(value.tobytes(), actual[name].tobytes(), name)
        self.assertNotEmpty(run_state.figures(directory))
        self.assertEqual(run_state.figures(whole), run_state.figures(directory))


@pytest.mark.slow
class RepeatTest(RunTest):
    def test_two_runs_of_a_seed(self):
        folder = tiny_run.make_temp_dir(self.addCleanup)
        for name in ("first", "second"):
            process = self.start(folder / name, "ablation/csml.gin", LARGE_BINDINGS)
            code, text = self.finish(process)
            self.assertEqual(code, 0, text)
        self.check_ends_alike(folder / "first", folder / "second")


class BasesTest(RunTest):
    @parameterized.parameters(*BASES)
    @pytest.mark.slow
    def test_killed_in_mid_epoch(self, base):
        folder = tiny_run.make_temp_dir(self.addCleanup)
        bindings = [*BASE_BINDINGS, *BASES[base], *(OF_NEIGHBORS if "csml" in base else ())]
        start = functools.partial(self.start, recipe=f"r18_cifar10_{base}.gin", bindings=bindings)
        code, text = self.finish(start(folder / "whole"))
        self.assertEqual(code, 0, text)
        process = start(folder / "killed")
        self.assertTrue(self.wait_for_checkpoint(process, folder / "killed", 6))  # In epoch 2.
        process.kill()
        process.communicate()
        code, text = self.finish(start(folder / "killed"))
        self.assertEqual(code, 0, text)
        self.assertIn(f"Going on from {folder / 'killed'} after ", text)
        self.check_ends_alike(folder / "whole", folder / "killed")


@pytest.mark.slow
class ResumeTest(RunTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = tiny_run.make_temp_dir(cls.addClassCleanup)
        cls.whole = cls.folder / "whole"
        code, text = cls.finish(cls.start(cls.whole))
        assert code == 0, text

    def test_killed_at_random_moments(self):
        rng = np.random.default_rng(SEED)
        directory = self.folder / "killed"
        kills = 0
        while kills < NUM_KILLS:
            process = self.start(directory)
            number = newest_number(directory) + int(rng.integers(1, 3))
            came_so_far = self.wait_for_checkpoint(process, directory, number)
            self.assertTrue(came_so_far, process.poll())
            time.sleep(rng.uniform(0, 0.5))
            process.send_signal(signal.SIGKILL)
            process.communicate()
            kills += process.returncode == -signal.SIGKILL
        code, text = self.finish(self.start(directory))
        self.assertEqual(code, 0, text)
        self.assertIn(f"Going on from {directory} after ", text)
        self.check_ends_alike(self.whole, directory)

    def test_stopped_in_mid_epoch(self):
        directory = self.folder / "stopped"
        process = self.start(directory)
        # Of the mining, step 5 and step 10 of epoch 1.
        self.assertTrue(self.wait_for_checkpoint(process, directory, 3))
        process.send_signal(signal.SIGTERM)
        code, text = self.finish(process)
        self.assertEqual(code, 143, text)
        last = text.splitlines()[-1]
        stopped = re.search(
            r"Stopped by SIGTERM at step (\d+) of epoch 1: repeat the command", last
        )
        self.assertIsNotNone(stopped, text)
        self.assertNotIn("Traceback", text)
        code, text = self.finish(self.start(directory))
        self.assertEqual(code, 0, text)
        self.assertIn(f"Going on from {directory} after step {stopped[1]} of epoch 1.", text)
        self.check_ends_alike(self.whole, directory)


def newest_number(directory):
    files = (directory / "checkpoints").glob("ckpt-*.index")
    return max((int(path.stem.split("-")[1]) for path in files), default=0)


if __name__ == "__main__":
    tf.test.main()
