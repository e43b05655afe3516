import contextlib
import io
import subprocess
import sys
from unittest import mock

from absl import flags
from absl.testing import absltest, parameterized

from csml_tf import cli, command


class MainTest(parameterized.TestCase):
    def call(self, *words):
        """-> (exit code, text on stdout, text on stderr)."""
        stdout, stderr = io.StringIO(), io.StringIO()
        with (
            mock.patch.object(sys, "argv", ["/usr/bin/csml-tf", *words]),
            contextlib.redirect_stdout(stdout),
            contextlib.redirect_stderr(stderr),
            self.assertRaises(SystemExit) as end,
        ):
            cli.main()
        return end.exception.code, stdout.getvalue(), stderr.getvalue()

    @parameterized.parameters(([], 2), (["--help"], 0), (["help"], 0))
    def test_overview_is_one_screen(self, words, code):
        actual, text, stderr = self.call(*words)
        self.assertEqual((actual, stderr), (code, ""))
        lines = text.splitlines()
        self.assertLess(len(lines), 24)
        self.assertLessEqual(max(map(len, lines)), 100)
        for verb in cli.VERBS:
            self.assertRegex(text, rf"(?m)^  {verb} +[A-Z].*\.$")

    @parameterized.parameters(
        ("trian", r" \(did you mean 'train'\?\)"), ("--gin_file=a.gin", ""), ("xyz", "")
    )
    def test_unknown_verb(self, word, hint):
        code, stdout, stderr = self.call(word)
        self.assertEqual((code, stdout), (2, ""))
        self.assertRegex(
            stderr, f"^csml-tf: There is no verb '{word}'{hint}: give one of train, .*ablate.\n$"
        )

    def test_the_verb_gets_the_other_words(self):
        seen, known = [], {*flags.FLAGS}

        def run(verb, command):
            seen.append((verb.__name__, command, sys.argv))
            sys.exit(0)

        with mock.patch.object(command, "run", run):
            self.call("extract", "--model=m", "--help")
        argv = ["csml-tf extract", "--model=m", "--help"]
        self.assertEqual(seen, [("csml_tf.verbs.extract", "csml-tf extract", argv)])
        for name in {*flags.FLAGS} - known:  # Other verbs may have one of the same name.
            delattr(flags.FLAGS, name)
        del sys.modules["csml_tf.verbs.extract"]

    def test_interrupted_while_tensorflow_is_imported(self):
        with mock.patch.object(cli.importlib, "import_module", side_effect=KeyboardInterrupt):
            code, _, stderr = self.call("train")
        self.assertEqual(code, 130)
        self.assertEqual(stderr, "csml-tf train: Interrupted before anything was done.\n")


_FLAGS_ALONE = """
import importlib, sys
from absl import flags
from csml_tf import InputError, cli, command

cli.describe()
for verb in cli.VERBS:
    importlib.import_module(f"csml_tf.verbs.{verb}")
    for name in [*flags.FLAGS]:  # Two verbs may have one of the same name.
        delattr(flags.FLAGS, name)
print(*(name for name in ("tensorflow", "gin", "scipy", "matplotlib") if name in sys.modules))
"""


class ProcessTest(absltest.TestCase):
    def test_help_does_not_wait_for_tensorflow(self):
        printed = subprocess.run(
            [sys.executable, "-c", _FLAGS_ALONE], capture_output=True, text=True
        )
        self.assertEqual((printed.stdout, printed.stderr), ("\n", ""))


if __name__ == "__main__":
    absltest.main()
