"""Real worker processes, on this machine, by `tools/train.py`."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time

import numpy as np
import pytest
import tensorflow as tf

from tests.training import run_state

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Steps so small that rounding does not grow: what counts is that all runs end alike.
BINDINGS = (
    *("EPOCHS = 2", "LEARNING_RATE = 0.001", "WIDTH = 4", "NEIGHBOR_WARMUP_EPOCHS = 1"),
    *("MONITOR_EVERY_EPOCHS = 2", "CHECKPOINT_EVERY_STEPS = 8", "MINE_EVERY_EPOCHS = 1"),
)
LIMIT_S = 900
NUM_KILLS = 5
# Replaces a worker's answers after the 12th: it lives, its heartbeats go on, and it says no more.
HANGS = """
import runpy, sys, time
import csml_tf
from csml_tf.training import workers

answer, answers = workers.largest, []

def hang(strategy, number):
    answers.append(number)
    if len(answers) > 12:
        print("hangs", flush=True)
        time.sleep(3600)
    return answer(strategy, number)

workers.largest = hang
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Workers:
    """The processes of one run; `last` is the Python that the last of them runs, if not plain."""

    def __init__(self, model_dir, count=2, bindings_of_last=(), last=(), timeout_s=60):
        self.logs = [tempfile.TemporaryFile("w+") for _ in range(count)]  # noqa: SIM115
        addresses = [f"127.0.0.1:{port}" for port in free_ports(count)]
        self.processes = []
        for index, log in enumerate(self.logs):
            config = {
                "cluster": {"worker": addresses},
                "task": {"type": "worker", "index": index},
            }
            environment = {**os.environ, "TF_CONFIG": json.dumps(config)}
            if count == 1:
                del environment["TF_CONFIG"]
            bindings = [*BINDINGS, *(bindings_of_last if index == count - 1 else ())]
            command = [sys.executable, *(last if index == count - 1 else ())]
            command += ["tools/train.py", "--gin_file=quickstart.gin"]
            command += [f"--gin_bindings={binding}" for binding in bindings]
            command += [f"--model_dir={model_dir}", f"--worker_timeout_s={timeout_s}"]
            self.processes.append(
                subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
            )

    def output(self, index):
        self.logs[index].seek(0)
        return self.logs[index].read()

    def wait_for(self, text, index=0):
        end = time.monotonic() + LIMIT_S
        while text not in self.output(index):
            assert time.monotonic() < end, self.output(index)
            assert self.processes[index].poll() is None, self.output(index)
            time.sleep(0.2)

    def end(self):
        """-> [exit code of each]."""
        return [process.wait(LIMIT_S) for process in self.processes]

    def kill(self):
        for process, log in zip(self.processes, self.logs):
            process.kill()
            process.wait()
            log.close()


@pytest.mark.slow
class WorkersTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def start(self, name, **options):
        started = Workers(self.folder / name, **options)
        self.addCleanup(started.kill)
        return started

    def check_end(self, name, expected):
        """The runs ended with the same state and the same losses."""
        rows = (run_state.figures(self.folder / run) for run in (name, expected))
        for row, expected_row in zip(*rows):
            for figure, value in expected_row.items():
                if figure.startswith("loss"):
                    self.assertAllClose(row[figure], value, rtol=1e-4, msg=figure)
        expected = run_state.load(self.folder / expected)
        actual = run_state.load(self.folder / name)
        self.assertEqual(expected.keys(), actual.keys())
        gradients = []
        for key, value in expected.items():
            if "optimizer/_variables" in key:
                gradients.append((actual[key].ravel(), value.ravel()))
            elif value.dtype.kind == "f":
                self.assertAllClose(actual[key], value, rtol=1e-2, atol=1e-3, msg=key)
            elif "neighbor_indices" in key:  # Near ties may fall the other way.
                self.assertGreater(np.mean(actual[key] == value), 0.95)
            elif value.dtype.kind == "i":
                self.assertAllEqual(actual[key], value, msg=key)
        # Rounding shows in single ones: those of one process with and without oneDNN differ more.
        one, other = (np.concatenate(parts) for parts in zip(*gradients))
        cosine = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
        self.assertGreater(cosine, 0.98)

    def test_two_equal_one_and_outlive_a_kill_and_a_stop(self):
        one = self.start("one", count=1)
        self.assertEqual(one.end(), [0], one.output(0))

        two = self.start("two")
        self.assertEqual(two.end(), [0, 0], two.output(0) + two.output(1))
        self.check_end("two", "one")

        # One worker is killed in the middle of the second epoch.
        killed = self.start("killed")
        killed.wait_for("epoch 1/2: loss")
        killed.wait_for("epoch 2/2:  4")
        killed.processes[1].kill()
        began = time.monotonic()
        self.assertEqual(killed.end(), [1, -signal.SIGKILL], killed.output(0))
        self.assertLess(time.monotonic() - began, 60)
        self.assertIn("Another worker has died or hangs", killed.output(0))
        again = self.start("killed")
        self.assertEqual(again.end(), [0, 0], again.output(0) + again.output(1))
        self.assertIn("Going on from", again.output(0))
        self.check_end("killed", "two")

        # One worker is told to stop: all save and stop.
        stopped = self.start("stopped")
        stopped.wait_for("epoch 1/2:  1", index=1)
        stopped.processes[1].send_signal(signal.SIGTERM)
        self.assertEqual(stopped.end(), [143, 143], stopped.output(0) + stopped.output(1))
        for index in (0, 1):
            self.assertRegex(stopped.output(index), r"Stopped by SIGTERM at step \d+ of epoch 1")
        again = self.start("stopped")
        self.assertEqual(again.end(), [0, 0], again.output(0) + again.output(1))
        self.check_end("stopped", "two")

    def test_five_kills_at_random_moments(self):
        undisturbed = self.start("undisturbed")
        self.assertEqual(undisturbed.end(), [0, 0], undisturbed.output(0) + undisturbed.output(1))
        rng = np.random.default_rng(0)
        kills = 0
        while kills < NUM_KILLS:
            workers = self.start("killed")
            workers.wait_for("steps, loss")
            time.sleep(rng.uniform(0, 1.5))
            victim = int(rng.integers(2))
            workers.processes[victim].kill()
            codes = workers.end()
            kills += codes[victim] == -signal.SIGKILL
            self.assertIn(codes[1 - victim], (0, 1), workers.output(1 - victim))
        again = self.start("killed")
        self.assertEqual(again.end(), [0, 0], again.output(0) + again.output(1))
        self.check_end("killed", "undisturbed")

    def test_a_stopped_worker_ends_all(self):
        workers = self.start("stopped")
        workers.wait_for("steps, loss")
        workers.processes[1].send_signal(signal.SIGSTOP)
        began = time.monotonic()
        self.assertEqual(workers.processes[0].wait(LIMIT_S), 1, workers.output(0))
        self.assertLess(time.monotonic() - began, 120)
        self.assertIn("Another worker has died or hangs", workers.output(0))
        workers.processes[1].send_signal(signal.SIGCONT)
        self.assertEqual(workers.processes[1].wait(LIMIT_S), 1, workers.output(1))
        self.assertIn("Another worker has died or hangs", workers.output(1))

    def test_a_worker_that_lives_and_hangs_ends_all(self):
        workers = self.start("hanging", last=["-c", HANGS], timeout_s=20)
        workers.wait_for("hangs", index=1)
        began = time.monotonic()
        self.assertEqual(workers.processes[0].wait(LIMIT_S), 1, workers.output(0))
        self.assertLess(time.monotonic() - began, 120)
        self.assertIn("Another worker has died or hangs", workers.output(0))

    def test_another_recipe_is_refused(self):
        workers = self.start("other", bindings_of_last=["TEMPERATURE = 0.3"])
        self.assertEqual(workers.end(), [2, 2], workers.output(0) + workers.output(1))
        for index in (0, 1):
            self.assertIn("or the images of replica 1 differ", workers.output(index))


if __name__ == "__main__":
    tf.test.main()
