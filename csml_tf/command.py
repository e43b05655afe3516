"""How every verb starts and ends: one sentence for bad input, no traceback."""

import contextlib
import errno
import io
import logging as std_logging
import os
import re
import signal
import sys
import types
from typing import Optional

from absl import app, flags, logging

from csml_tf import errors, places, setting_rules
from csml_tf.errors import InputError
from csml_tf.training.stop_signals import Stopped

_EXIT_FAILED = 1
_EXIT_BAD_INPUT = 2
_EXIT_SIGNAL = 128  # And the number of the signal, as a shell says it.
_EXIT_READER_LEFT = _EXIT_SIGNAL + 13  # SIGPIPE, which not every system has.
# A disk that is full or may not be written to, and nothing that is wrong with the input.
_STORAGE_ERRORS = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO),
    *(errno.EACCES, errno.EPERM, errno.EROFS),
)
_HELP = {"-?", "-h", "--help", "--helpshort", "--helpfull", "--helpxml"}


def run(verb: types.ModuleType, command: str) -> None:
    """Runs a verb's `main(argv)` through absl and leaves with its exit code.

    The code is 0 when all went well, 1 for a disk that is full or not writable and for too
    little memory, 2 for bad input, 130 for Ctrl-C, 143 for SIGTERM. Anything else is a fault
    of ours and keeps its traceback.

    Args:
        verb: module with flags, a docstring that shows how to use it, and `main(argv)`; the
            number of words without a flag that it takes at most is its NUM_ARGUMENTS, or 0.
        command: what the docstring calls the verb: "csml-tf train".
    """
    num_arguments = getattr(verb, "NUM_ARGUMENTS", 0)
    _make_help(verb, command)

    def guarded(argv):
        _show_our_log_only()
        if isinstance(sys.stdout, io.TextIOWrapper):  # A name that is no UTF-8: as it is.
            sys.stdout.reconfigure(errors="surrogateescape")
        if len(argv) > 1 + num_arguments:
            return _fail(_EXIT_BAD_INPUT, f"Unexpected arguments {argv[1:]}: see --help.")
        try:
            _read_flags(verb)
            code = verb.main(argv)
            sys.stdout.flush()
            return code
        except BrokenPipeError:  # Whoever read our lines has seen enough, such as `head`.
            _close_stdout()
            return _EXIT_READER_LEFT
        except Stopped as stop:
            return _fail(_EXIT_SIGNAL + stop.signal, str(stop))
        except KeyboardInterrupt:
            return _fail(_EXIT_SIGNAL + signal.SIGINT, "Interrupted: repeat the command to go on.")
        except (InputError, OSError, *errors.of_tensorflow("OpError")) as error:
            code, sentence = explain(error)
            if sentence is None:
                raise
            return _fail(code, sentence)

    try:
        app.run(guarded)
    except SystemExit as end:
        # absl leaves with 1 after it has shown the help that was asked for.
        if end.code == 1 and _HELP.intersection(sys.argv[1:]):
            sys.exit(0)
        if "tensorflow_io" in sys.modules:
            _leave_at_once(end.code)
        raise


def _leave_at_once(code):
    """Ends the process with its exit code, which tensorflow-io's own end would make an abort."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)


def _read_flags(verb):
    """Checks the verb's flags, and expands those that are places."""
    read = {flag.name: flag for flag in flags.FLAGS.get_flags_for_module(verb.__name__)}
    for name, flag in read.items():
        if flag.value is None:
            continue
        if name in setting_rules.PATHS:
            flag.value = _each(lambda path, name=name: places.expand(path, f"--{name}"), flag.value)
        elif name in setting_rules.IMAGE_PATHS:
            flag.value = _each(places.expand_home, flag.value)
    setting_rules.check({name: flag.value for name, flag in read.items()})


def _each(function, value):
    if isinstance(value, list):
        return [function(one) for one in value]
    return function(value) if isinstance(value, str) else value  # --images of a report: whether.


def _make_help(verb, command):
    """Gives absl the verb's docstring and flags, which it looks for in the main module."""
    program = sys.argv[0]
    if program != command:
        program = f"python {program}"
    sys.modules["__main__"].__doc__ = verb.__doc__.replace(command, program)
    for flag in flags.FLAGS.get_flags_for_module(verb.__name__):
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)


def _show_our_log_only():
    """Messages of absl, which are ours, as plain lines; of other libraries errors only."""
    logging.use_python_logging(quiet=True)
    logging.get_absl_handler().setFormatter(None)
    std_logging.getLogger().setLevel(std_logging.CRITICAL)
    std_logging.getLogger("tensorflow").setLevel(std_logging.ERROR)
    std_logging.getLogger("absl").setLevel(std_logging.INFO)


def explain(error: Exception) -> tuple[int, Optional[str]]:
    """What an error means to the user.

    Args:
        error: `InputError`, `OSError` or `tf.errors.OpError`.

    Returns:
        (exit code, sentence) for what is no fault of ours; (1, None) for what is.
    """
    if isinstance(error, InputError):
        # Its own words, whatever it was raised from, which decides the code.
        return _EXIT_FAILED if _is_of_storage(error) else _EXIT_BAD_INPUT, str(error)
    text = getattr(error, "message", str(error))
    ours = re.search(r"\bInputError: (.+)", text)
    if ours:  # Raised by an image source inside tf.data, which hands on its text only.
        return _EXIT_BAD_INPUT, ours[1]
    if _is_of_storage(error):
        what = errors.first_line(error)
        return _EXIT_FAILED, f"{what}: free some space or choose another folder."
    if errors.is_of_another_worker(error):
        return _EXIT_FAILED, (
            f"Another worker has died or hangs ({errors.first_line(error)}): see its own last "
            "lines, and start all workers again; the run goes on from its newest checkpoint."
        )
    if isinstance(error, errors.of_tensorflow("ResourceExhaustedError")):
        return _EXIT_FAILED, (
            "The device has too little memory: lower GLOBAL_BATCH_SIZE, or WIDTH, for training, "
            "--image_size for evaluation."
        )
    return _EXIT_FAILED, None


def _is_of_storage(error):
    """Whether an error, or one that it was raised from, says that a disk cannot be written to."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _STORAGE_ERRORS:
            return True
        # TensorFlow's errors have the system's words in their text, and no number.
        if isinstance(error, errors.of_tensorflow("OpError")) and any(
            os.strerror(number) in error.message for number in _STORAGE_ERRORS
        ):
            return True
        # Keras and gin raise what passes through them anew, "from None".
        error = error.__cause__ or error.__context__
    return False


def _close_stdout():
    """Python would complain at the end that what is left cannot be written."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(code, sentence):
    print(f"{sys.argv[0]}: {sentence}", file=sys.stderr)
    return code
