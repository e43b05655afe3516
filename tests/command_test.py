import contextlib
import errno
import io
import logging as std_logging
import os
import signal
import sys
import types
from unittest import mock

import gin
import tensorflow as tf
from absl.testing import parameterized

from csml_tf import command, features
from csml_tf.augment.center_view import CenterView
from csml_tf.data.sources import folder
from csml_tf.errors import InputError
from csml_tf.training.stop_signals import Stopped
from tests.data.sources import image_files


def make_verb(main):
    """A module with that `main` and a usage."""
    verb = types.ModuleType("csml_tf.verbs.one", "Does one.\n\ncsml-tf one --much")
    verb.main = main
    return verb


class RunTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        for name in (None, "tensorflow", "absl"):
            logger = std_logging.getLogger(name)
            self.addCleanup(logger.setLevel, logger.level)
        self.enter_context(mock.patch.object(sys, "argv", ["tools/one.py"]))
        main = types.ModuleType("__main__")
        self.enter_context(mock.patch.dict(sys.modules, __main__=main))

    def run_tool(self, main, argv=("tools/one.py",)):
        """-> (exit code, text on stderr)."""
        stderr = io.StringIO()
        with (
            mock.patch.object(command.app, "run", lambda guarded: sys.exit(guarded(list(argv)))),
            contextlib.redirect_stderr(stderr),
            self.assertRaises(SystemExit) as end,
        ):
            command.run(make_verb(main), "csml-tf one")
        return end.exception.code, stderr.getvalue()

    def raises(self, error):
        def main(argv):
            raise error

        return self.run_tool(main)

    def test_success(self):
        self.assertEqual(self.run_tool(lambda argv: None), (None, ""))

    def test_package_that_aborts_at_the_end(self):
        """As tensorflow-io does where it was used."""
        package = mock.patch.dict(sys.modules, tensorflow_io=types.ModuleType("tensorflow_io"))
        with package, mock.patch.object(os, "_exit") as leave:
            self.run_tool(lambda argv: None)
            self.raises(InputError("mend it."))
        self.assertEqual(leave.call_args_list, [mock.call(0), mock.call(2)])
        with mock.patch.object(os, "_exit") as leave:
            self.run_tool(lambda argv: None)
        leave.assert_not_called()

    @parameterized.parameters(
        (InputError("mend it."), 2, "mend it."),
        (KeyboardInterrupt(), 130, "Interrupted: repeat the command to go on."),
        (OSError(errno.ENOSPC, "No space left on device", "f"), 1, "free some space"),
        (PermissionError(errno.EACCES, "Permission denied", "f"), 1, "choose another folder"),
        (tf.errors.UnknownError(None, None, "a; No space left on device"), 1, "free some space"),
        (
            tf.errors.UnknownError(
                None, None, "a.jpg; Permission denied\n\t [[{{node x}}]] [Op:X]"
            ),
            *(1, r"a.jpg; Permission denied: free some space or choose another folder\."),
        ),
        (Stopped(signal.SIGTERM, "at step 3"), 143, "Stopped by SIGTERM at step 3: repeat the"),
        (Stopped(signal.SIGINT, "at step 3"), 130, "Stopped by SIGINT at step 3: repeat the"),
        (tf.errors.ResourceExhaustedError(None, None, "OOM"), 1, "lower GLOBAL_BATCH_SIZE"),
        (tf.errors.UnknownError(None, None, "x InputError: mend it.\nTrace"), 2, "mend it."),
    )
    def test_one_sentence(self, error, code, sentence):
        actual, text = self.raises(error)
        self.assertEqual(actual, code)
        self.assertRegex(text, f"^tools/one.py: .*{sentence}.*\n$")

    @parameterized.parameters(
        (OSError(errno.ENOSPC, "No space left on device"), 1),
        (PermissionError(errno.EACCES, "Permission denied"), 1),
        (tf.errors.ResourceExhaustedError(None, None, "x; No space left on device"), 1),
        (tf.errors.UnknownError(None, None, "x; File too large"), 1),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory"), 2),
        (tf.errors.DataLossError(None, None, "checksum"), 2),
        (ValueError("no"), 2),
    )
    def test_what_it_was_raised_from_decides_the_code(self, cause, code):
        def main(argv):
            raise InputError("mend it.") from cause

        self.assertEqual(self.run_tool(main), (code, "tools/one.py: mend it.\n"))

    def test_full_disk_on_the_way_through_keras_and_gin(self):
        gin.clear_config()  # A recipe that another test has read locks it.
        full = OSError(errno.ENOSPC, "No space left on device", "f")

        def save(number):
            try:
                raise full
            except OSError as error:
                raise InputError("free some space.") from error

        def fit():
            model = tf.keras.Sequential()
            model.compile(run_eagerly=True)
            model.train_step = save
            model.fit(tf.data.Dataset.range(1))

        def fail():
            raise full

        for step, message in (
            (fit, r"free some space\."),
            (fail, "No space left on device: 'f': f"),
        ):
            configurable = gin.external_configurable(step, module="command_test")
            code, text = self.raises_in(configurable)
            self.assertRegex(text, f"^tools/one.py: .*{message}")
            self.assertEqual(code, 1)

    def raises_in(self, function):
        return self.run_tool(lambda argv: function())

    @parameterized.parameters(
        ValueError("ours"),
        FileNotFoundError(errno.ENOENT, "No such file"),
        tf.errors.InvalidArgumentError(None, None, "shapes"),
    )
    def test_our_faults_keep_their_traceback(self, error):
        with (
            mock.patch.object(command.app, "run", lambda guarded: guarded(["tools/one.py"])),
            self.assertRaises(type(error)),
        ):
            command.run(make_verb(mock.Mock(side_effect=error)), "csml-tf one")

    def test_reader_that_has_seen_enough(self):
        """What `head` does to a verb that prints more: silence, and the code of SIGPIPE."""
        with mock.patch.object(command, "_close_stdout") as close:
            self.assertEqual(self.raises(BrokenPipeError()), (141, ""))
        close.assert_called_once()

    def test_unexpected_argument(self):
        code, text = self.run_tool(lambda argv: None, ["tools/one.py", "extra"])
        self.assertEqual(
            (code, text), (2, "tools/one.py: Unexpected arguments ['extra']: see --help.\n")
        )

    def test_as_many_arguments_as_the_verb_takes(self):
        verb = make_verb(mock.Mock(return_value=None))
        verb.NUM_ARGUMENTS = 1
        with mock.patch.object(command.app, "run", lambda guarded: guarded(["one", "extra"])):
            command.run(verb, "csml-tf one")
        verb.main.assert_called_once_with(["one", "extra"])

    @parameterized.parameters(
        ("csml-tf one", "csml-tf one --much"), ("tools/one.py", "python tools/one.py --much")
    )
    def test_usage_says_how_it_was_called(self, program, usage):
        with mock.patch.object(sys, "argv", [program]):
            self.run_tool(lambda argv: None, [program])
        self.assertEqual(sys.modules["__main__"].__doc__, f"Does one.\n\n{usage}")

    def test_folder_that_turns_out_broken_inside_tf_data(self):
        directory = image_files.make_temp_dir(self.addCleanup)
        image_files.write_pngs(directory, 20)
        for i in range(3):  # Head and tail are right, so opening does not notice.
            png = image_files.encode(image_files.noise(i), "PNG")
            image_files.write(png[:60] + bytes(60) + png[120:], directory, f"{i:03d}.png")
        with mock.patch.object(folder, "MAX_DECODED_BYTES", 0):
            source = folder.FolderSource(directory)

        def main(argv):
            features.extract_features(features.flatten, source, CenterView(8))

        code, text = self.run_tool(main)
        self.assertEqual(code, 2)
        self.assertRegex(
            text.splitlines()[-1], r"^tools/one.py: \d of 20 files in .* 1%: .*them\.$"
        )
        self.assertNotIn("Traceback", text)


if __name__ == "__main__":
    tf.test.main()
