"""Runs of one seed end alike, bit for bit, and so does one that was killed or stopped."""

import pathlib
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

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


class RunTest(tf.test.TestCase):
    @classmethod
    def start(cls, directory, recipe="quickstart.gin", bindings=BINDINGS):
        command = [sys.executable, "tools/train.py", f"--gin_file={recipe}"]
        command += [f"--model_dir={directory}", *(f"--gin_bindings={line}" for line in bindings)]
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        cls.addClassCleanup(process.kill)
        return process

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
        self.assertEqual(run_state.figures(whole), run_state.figures(directory))
        self.assertLen(run_state.figures(directory), 3)


@pytest.mark.slow
class RepeatTest(RunTest):
    def test_two_runs_of_a_seed(self):
        folder = tiny_run.make_temp_dir(self.addCleanup)
        for name in ("first", "second"):
            process = self.start(folder / name, "ablation/csml.gin", LARGE_BINDINGS)
            code, text = self.finish(process)
            self.assertEqual(code, 0, text)
        self.check_ends_alike(folder / "first", folder / "second")


@pytest.mark.slow
class ResumeTest(RunTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = tiny_run.make_temp_dir(cls.addClassCleanup)
        cls.whole = cls.folder / "whole"
        code, text = cls.finish(cls.start(cls.whole))
        assert code == 0, text

    def wait_for_checkpoint(self, process, directory, number):
        """-> whether the process came so far before it ended."""
        deadline = time.monotonic() + DEADLINE_S
        while newest_number(directory) < number:
            if process.poll() is not None:
                return False
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.01)
        return True

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
