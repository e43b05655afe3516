import os
import signal
import subprocess
import sys
import threading
import time

from absl.testing import absltest, parameterized

from csml_tf.training import stop_signals
from csml_tf.training.stop_signals import Stopped, StopSignals

# The main thread is inside one call of C for longer than any test waits, as in a step.
IN_A_STEP = """
import hashlib, runpy, sys
StopSignals = runpy.run_path(sys.argv[1])["StopSignals"]  # Without TensorFlow.
with StopSignals():
    print("ready", flush=True)
    hashlib.pbkdf2_hmac("sha512", b"", b"", 10**9)
"""


def handlers():
    old = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(old)
    return signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT), old


def send(number):
    os.kill(os.getpid(), number)
    time.sleep(0)  # The interpreter looks for signals between two calls.


class StopSignalsTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        # A parent such as nohup may have had it ignored.
        self.addCleanup(signal.signal, signal.SIGHUP, signal.getsignal(signal.SIGHUP))
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        before, threads = handlers(), threading.active_count()
        self.addCleanup(lambda: self.assertEqual(handlers(), before))
        self.addCleanup(lambda: self.assertEqual(threading.active_count(), threads))

    @parameterized.parameters(
        *(signal.SIGTERM, signal.SIGINT, signal.SIGHUP),
        *(signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU),
    )
    def test_waits_until_asked(self, number):
        with (
            self.assertRaisesRegex(Stopped, rf"^Stopped by {number.name} here: repeat") as caught,
            StopSignals() as stops,
        ):
            stops.check("there")
            self.assertIsNone(stops.received)
            send(number)
            self.assertEqual(stops.received, number)
            stops.check("here")
        self.assertEqual(caught.exception.signal, number)

    def test_leaves_alone_what_others_ignore_or_use(self):
        """As nohup does with SIGHUP."""
        seen = []
        uses = {signal.SIGHUP: signal.SIG_IGN, signal.SIGUSR1: lambda *_: seen.append(1)}
        for number, handler in uses.items():
            self.addCleanup(signal.signal, number, signal.signal(number, handler))
        with StopSignals() as stops:
            send(signal.SIGHUP)
            send(signal.SIGUSR1)
            self.assertIsNone(stops.received)
        self.assertEqual(seen, [1])

    def test_ends_at_once_where_nothing_is_lost(self):
        steps = []
        with (
            self.assertRaisesRegex(Stopped, "SIGTERM while mining, which will"),
            StopSignals() as stops,
        ):
            with stops.ending_at_once("measuring"):
                steps.append(1)
            with stops.ending_at_once("mining"):
                send(signal.SIGTERM)
                steps.append(2)
        self.assertEqual(steps, [1])

    def test_does_not_begin_what_would_end_at_once(self):
        with (
            self.assertRaisesRegex(Stopped, "SIGTERM before mining: repeat"),
            StopSignals() as stops,
        ):
            send(signal.SIGTERM)
            with stops.ending_at_once("mining"):
                self.fail("begun")

    def test_a_signal_while_workers_agree_is_not_lost(self):
        asked = []

        def agree(number):
            asked.append(number)
            if len(asked) == 1:
                os.kill(os.getpid(), signal.SIGTERM)
            return number

        with self.assertRaisesRegex(Stopped, "SIGTERM here"), StopSignals(agree) as stops:
            self.assertFalse(stops.ask())
            self.assertTrue(stops.ask())
            stops.check("here")

    def test_a_signal_of_another_worker_counts(self):
        with self.assertRaisesRegex(Stopped, "SIGTERM here"), StopSignals(lambda _: 15) as stops:
            self.assertTrue(stops.ask())
            stops.check("here")

    def test_nobody_asked(self):
        with self.assertRaisesRegex(Stopped, "SIGTERM after its last step"), StopSignals():
            send(signal.SIGTERM)

    def test_other_error_goes_first(self):
        with self.assertRaisesRegex(ValueError, "fault"), StopSignals():
            send(signal.SIGTERM)
            raise ValueError("fault")

    def test_no_exception_of_ours_is_caught_on_the_way(self):
        self.assertNotIsInstance(Stopped(signal.SIGTERM, ""), Exception)

    def test_other_thread(self):
        found = []

        def work():
            before = handlers_of_main()
            with StopSignals() as stops:
                found.extend([handlers_of_main() == before, stops.received])

        def handlers_of_main():
            return signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        self.assertEqual(found, [True, None])

    @parameterized.parameters(signal.SIGTERM, signal.SIGINT)
    def test_second_ctrl_c_ends_at_once(self, first):
        process = subprocess.Popen(
            [sys.executable, "-c", IN_A_STEP, stop_signals.__file__],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(process.kill)
        self.assertEqual(process.stdout.readline(), "ready\n")
        process.send_signal(first)
        first_line = process.stderr.readline()
        self.assertIn(f"{first.name}: the run ends after this step", first_line)
        process.send_signal(signal.SIGTERM)  # Says nothing new.
        time.sleep(0.2)
        self.assertIsNone(process.poll())
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130)
        self.assertEqual(rest, "Ended at once: repeat the command to go on.\n")


if __name__ == "__main__":
    absltest.main()
