import errno
import os
import signal
import socket
import subprocess
import sys
from unittest import mock

from absl.testing import absltest, parameterized

from csml_tf.errors import InputError
from csml_tf.training import run_lock
from tests.training import tiny_run

# What the lock is, without this package.
HOLD = """
import fcntl, os, socket, sys, time
with open(sys.argv[1] + "/lock", "a") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    file.write(f"process {os.getpid()} on {socket.gethostname()}")
    file.flush()
    print("held", flush=True)
    time.sleep(600)
"""


class RunLockTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.directory = tiny_run.make_temp_dir(self.addCleanup)

    def hold_in_another_process(self):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(self.directory)], stdout=subprocess.PIPE, text=True
        )
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        self.assertEqual(process.stdout.readline(), "held\n")
        return process

    def test_leaves_nothing_behind(self):
        for _ in range(2):
            with run_lock.hold(self.directory):
                self.assertLen([*self.directory.iterdir()], 1)
            self.assertEmpty([*self.directory.iterdir()])
        with self.assertRaisesRegex(ValueError, "mine"), run_lock.hold(self.directory):
            raise ValueError("mine")
        self.assertEmpty([*self.directory.iterdir()])

    def test_names_the_other_process(self):
        process = self.hold_in_another_process()
        holder = f"process {process.pid} on {socket.gethostname()}"
        with (
            self.assertRaisesRegex(
                InputError, rf"^{self.directory} is in use by {holder}: wait .*--model_dir\.$"
            ),
            run_lock.hold(self.directory),
        ):
            self.fail("held twice")
        # To be refused takes nothing from the one who holds it.
        with self.assertRaisesRegex(InputError, holder), run_lock.hold(self.directory):
            self.fail("held twice")
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.assertLen([*self.directory.iterdir()], 1)
        with run_lock.hold(self.directory):
            self.assertIn(str(os.getpid()), (self.directory / "lock").read_text())

    def test_file_removed_while_it_was_opened(self):
        flock = run_lock.fcntl.flock
        path = self.directory / "lock"

        def remove_first(file, how):
            if mocked.call_count == 1:
                path.unlink()
            flock(file, how)

        patch = mock.patch.object(run_lock.fcntl, "flock", side_effect=remove_first)
        with patch as mocked, run_lock.hold(self.directory):
            self.assertEqual(mocked.call_count, 2)
            in_use = self.assertRaisesRegex(InputError, "in use by process")
            with in_use, run_lock.hold(self.directory):
                self.fail("held twice")

    @parameterized.parameters(OSError(errno.ENOLCK, "No locks available"), None)
    def test_goes_on_without_locks(self, error):
        patch = mock.patch.object(run_lock, "fcntl", None)
        if error is not None:
            patch = mock.patch.object(run_lock.fcntl, "flock", side_effect=error)
        with patch, self.assertLogs("absl", "WARNING") as logs, run_lock.hold(self.directory):
            pass
        self.assertLen(logs.output, 1)
        self.assertRegex(logs.output[0], r"cannot be locked \((No locks|this system).*second proc")


if __name__ == "__main__":
    absltest.main()
