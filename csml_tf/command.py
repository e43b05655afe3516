"""How every tool starts and ends: one sentence for bad input, no traceback."""

import errno
import logging as std_logging
import re
import sys

import tensorflow as tf
from absl import app, logging

from csml_tf.errors import InputError

_EXIT_FAILED = 1
_EXIT_BAD_INPUT = 2
_EXIT_INTERRUPTED = 130
_HELP = {"-?", "-h", "--help", "--helpshort", "--helpfull", "--helpxml"}


def run(main, num_arguments=0):
    """Runs a tool's `main(argv)` through absl and leaves with its exit code.

    The code is 0 when all went well, 1 for a full disk and the like, 2 for bad input,
    130 for Ctrl-C. Anything else is a fault of ours and keeps its traceback.

    Args:
        main: function of argv.
        num_arguments: how many words without a flag the tool takes at most.
    """

    def guarded(argv):
        _show_our_log_only()
        if len(argv) > 1 + num_arguments:
            return _fail(_EXIT_BAD_INPUT, f"Unexpected arguments {argv[1:]}: see --help.")
        try:
            return main(argv)
        except InputError as error:
            return _fail(_EXIT_BAD_INPUT, str(error))
        except KeyboardInterrupt:
            return _fail(_EXIT_INTERRUPTED, "Interrupted: repeat the command to go on.")
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
                raise
            return _fail(_EXIT_FAILED, f"{error}: free some space or choose another folder.")
        except tf.errors.OpError as error:
            code, sentence = _explain(error)
            if sentence is None:
                raise
            return _fail(code, sentence)

    try:
        app.run(guarded)
    except SystemExit as end:
        # absl leaves with 1 after it has shown the help that was asked for.
        if end.code == 1 and _HELP.intersection(sys.argv[1:]):
            sys.exit(0)
        raise


def _show_our_log_only():
    """Messages of absl, which are ours, as plain lines; of other libraries errors only."""
    logging.use_python_logging(quiet=True)
    logging.get_absl_handler().setFormatter(None)
    std_logging.getLogger().setLevel(std_logging.CRITICAL)
    std_logging.getLogger("tensorflow").setLevel(std_logging.ERROR)
    std_logging.getLogger("absl").setLevel(std_logging.INFO)


def _explain(error):
    """-> (exit code, sentence) for an error out of a TensorFlow graph; (1, None) if unknown."""
    ours = re.search(r"\bInputError: (.+)", error.message)
    if ours:  # Raised by an image source inside tf.data, which hands on its text only.
        return _EXIT_BAD_INPUT, ours[1]
    if "No space left on device" in error.message:
        return _EXIT_FAILED, "The disk is full: free some space and repeat the command."
    if isinstance(error, tf.errors.ResourceExhaustedError):
        return _EXIT_FAILED, (
            "The device has too little memory: lower GLOBAL_BATCH_SIZE, or WIDTH, for training, "
            "--image_size for evaluation."
        )
    return _EXIT_FAILED, None


def _fail(code, sentence):
    print(f"{sys.argv[0]}: {sentence}", file=sys.stderr)
    return code
