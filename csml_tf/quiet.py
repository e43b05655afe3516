"""Keeps the chatter of libraries off the terminal, around one call of them."""

import contextlib
import io
import logging as std_logging
import warnings

from absl import logging


@contextlib.contextmanager
def quiet():
    """Within it absl logs errors only; TFDS and SavedModel log every step through absl."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity(min(verbosity, logging.ERROR))
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


@contextlib.contextmanager
def without_notes(*names):
    """Within it there is nothing of what a converter says about every conversion.

    Args:
        names: of the loggers that log errors only. Warnings and what goes to `sys.stderr` are
            dropped, whosever they are.
    """
    loggers = [std_logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(std_logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)
