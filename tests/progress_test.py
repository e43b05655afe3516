import contextlib
import io
import logging as std_logging
import sys
import types
from unittest import mock

import tqdm
from absl import logging
from absl.testing import absltest
from tqdm import notebook

from csml_tf import progress, quiet


def fake_ipython(*parts):
    shell = types.SimpleNamespace(config=dict.fromkeys(parts))
    return types.SimpleNamespace(get_ipython=lambda: shell)


class MakeBarTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        self.screen = io.StringIO()
        self.screen.isatty = lambda: True

    def make(self, ipython, widgets=object):
        """-> the class of the bar, and what it was made with."""
        made = []

        def make(name):
            return lambda **options: made.append((name, options))

        with (
            mock.patch.object(sys, "stderr", self.screen),
            mock.patch.dict(sys.modules, IPython=ipython),
            mock.patch.object(tqdm, "tqdm", make("terminal")),
            mock.patch.object(notebook, "tqdm", make("notebook")),
            mock.patch.object(notebook, "IProgress", widgets),
        ):
            progress.make_bar(total=3, leave=True)
        return made[0]

    def test_terminal(self):
        for ipython in (None, fake_ipython("TerminalIPythonApp")):
            kind, options = self.make(ipython)
            self.assertEqual(kind, "terminal")
            self.assertContainsSubset({"total": 3, "leave": True, "file": self.screen}, options)

    def test_notebook(self):
        self.assertEqual(self.make(fake_ipython("IPKernelApp"))[0], "notebook")
        self.assertEqual(self.make(fake_ipython("IPKernelApp"), widgets=None)[0], "terminal")


class LineBarTest(absltest.TestCase):
    """Stderr is a file: a line each half minute, nothing else."""

    def setUp(self):
        super().setUp()
        self.now = 100.0
        clock = types.SimpleNamespace(perf_counter=lambda: self.now)
        self.enter_context(mock.patch.object(progress, "time", clock))
        self.file = self.enter_context(mock.patch("sys.stderr", io.StringIO()))

    def test_a_line_each_half_minute(self):
        with progress.bar(100, "features", unit="images") as advance:
            for _ in range(20):
                self.now += 4.0
                advance(5)
        lines = self.file.getvalue().splitlines()
        self.assertLen(lines, 2)  # After 32 and 64 of 80 seconds.
        self.assertIn("features:  40%", lines[0])
        self.assertIn("40/100 [00:32<00:48,  1.25 images/s]", lines[0])
        self.assertIn("80/100", lines[1])
        self.assertNotIn("\r", self.file.getvalue())

    def test_short_work_writes_nothing(self):
        with progress.bar(100, "features", unit="images") as advance:
            self.now += 29.0
            advance(100)
        self.assertEmpty(self.file.getvalue())


class ShownLogTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        self.addCleanup(logging.set_verbosity, logging.get_verbosity())

    def lines(self, verbosity):
        """What appears on stdout, of three messages; one in a place that is kept quiet."""
        logging.set_verbosity(verbosity)
        stdout = io.StringIO()
        with contextlib.redirect_stdout(stdout), progress.shown_log():
            logging.info("epoch %d/%d", 1, 2)
            with quiet.quiet():
                logging.info("of a library")
            logging.info("epoch %d/%d", 2, 2)
        self.assertEqual(logging.get_verbosity(), verbosity)
        return stdout.getvalue().splitlines()

    def test_hidden_log_is_shown(self):
        logger = logging.get_absl_logger()
        before = (logger.propagate, [*logger.handlers])
        self.assertEqual(self.lines(logging.WARNING), ["epoch 1/2", "epoch 2/2"])
        self.assertEqual((logger.propagate, logger.handlers), before)

    def test_a_log_that_is_set_up_stays(self):
        with self.assertLogs("absl", std_logging.INFO) as logs:
            self.assertEmpty(self.lines(logging.INFO))
        self.assertLen(logs.output, 2)


if __name__ == "__main__":
    absltest.main()
