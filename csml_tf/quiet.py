"""Keeps the chatter of libraries off the terminal, around one call of them."""

import contextlib

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
