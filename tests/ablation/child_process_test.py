import contextlib
import io
import os
import signal
import subprocess
import sys
import threading
import time
from unittest import mock

from absl.testing import absltest

from csml_tf import whole_files
from csml_tf.ablation import child_process
from csml_tf.errors import InputError
from csml_tf.training.stop_signals import Stopped
from tests.training import tiny_run


def run(script, *arguments, **options):
    """-> (what `child_process.run` returns, what appeared on stderr)."""
    shown = io.StringIO()
    with (
        contextlib.redirect_stderr(shown),
        mock.patch.object(child_process, "_COMMAND", (sys.executable, "-c")),
    ):
        result = child_process.run(script, arguments, **options)
    return result, shown.getvalue()


class RunTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = tiny_run.make_temp_dir(self.addCleanup)

    def test_exit_code_and_last_words(self):
        script = "import sys; print('one'); print('50%\\rtwo\\r', file=sys.stderr); sys.exit(3)"
        result, shown = run(script)
        self.assertEqual(result, (3, "two"))
        self.assertIn("one", shown)

    def test_silence(self):
        self.assertEqual(run(""), ((0, ""), ""))

    def test_last_words_of_many(self):
        result, _ = run("for i in range(10000): print('word', i)")
        self.assertEqual(result, (0, "word 9999"))

    def test_hands_on_a_signal_and_waits_for_the_child(self):
        script = (
            "import pathlib, signal, sys, time\n"
            "def save(number, frame):\n"
            "    time.sleep(0.2); pathlib.Path(sys.argv[1], 'saved').touch(); sys.exit(143)\n"
            "signal.signal(signal.SIGTERM, save)\n"
            "pathlib.Path(sys.argv[1], 'ready').touch()\n"
            "time.sleep(60)\n"
        )

        def stop():
            while not (self.folder / "ready").exists():
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGTERM)

        handler = signal.getsignal(signal.SIGTERM)
        threading.Thread(target=stop).start()
        with self.assertRaisesRegex(Stopped, "(?s)^Stopped by SIGTERM while import .* ran: repeat"):
            run(script, str(self.folder))
        self.assertTrue((self.folder / "saved").exists())
        self.assertIs(signal.getsignal(signal.SIGTERM), handler)

    def test_an_orphan_keeps_the_lock(self):
        """The parent is killed; as long as its child lives, nobody else gets in."""
        script = (
            "import os, signal, sys\n"
            "from csml_tf.ablation import child_process\n"
            "child_process._COMMAND = (sys.executable, '-c')\n"
            "from csml_tf import whole_files\n"
            "child = 'import sys, time; print(1, flush=True); time.sleep(float(sys.argv[1]))'\n"
            "with whole_files.hold(sys.argv[1]) as lock:\n"
            "    child_process.run(child, ['4'], lock)\n"
        )
        parent = subprocess.Popen(
            [sys.executable, "-c", script, str(self.folder)], stderr=subprocess.PIPE
        )
        self.addCleanup(parent.stderr.close)
        while parent.stderr.readline() != b"1\n":
            pass
        parent.kill()
        parent.wait()
        with (
            self.assertRaisesRegex(
                InputError, f"in use by process {parent.pid} or .* another --output"
            ),
            whole_files.hold(self.folder, "--output"),
        ):
            pass
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:  # The child ends.
            with contextlib.suppress(InputError), whole_files.hold(self.folder):
                return
            time.sleep(0.1)
        self.fail("The lock outlives the child.")


if __name__ == "__main__":
    absltest.main()
