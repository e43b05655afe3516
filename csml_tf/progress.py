"""What a long work shows: bars of one look, and in a notebook the lines of the log."""

import contextlib
import logging as std_logging
import sys
from collections.abc import Iterator
from typing import Any, Callable

import tqdm
from absl import logging

# A bar that appears only when the work takes longer than this, in seconds.
_SHOW_AFTER_S = 2.0


def make_bar(**options: Any) -> tqdm.tqdm:
    """A bar that is gone from the screen when it is closed; in a notebook one of the notebook's.

    Args:
        **options: of `tqdm.tqdm`.
    """
    make = tqdm.tqdm
    if in_notebook():
        from tqdm import notebook

        # None without ipywidgets: then the notebook shows what a terminal would.
        if notebook.IProgress is not None:
            make = notebook.tqdm
    return make(**{"leave": False, "file": sys.stderr, "dynamic_ncols": True, **options})


@contextlib.contextmanager
def bar(total: int, description: str, unit: str) -> Iterator[Callable[[int], Any]]:
    """A bar with the time left; gone from the screen when the work is done.

    Args:
        total: units of work.
        description: what is being done, in a word or two.
        unit: of the work, in the plural.

    Yields:
        function of the number of units just done.
    """
    with make_bar(total=total, desc=description, unit=f" {unit}", delay=_SHOW_AFTER_S) as tqdm_bar:
        yield tqdm_bar.update


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook: it has IPython, and no terminal."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and "IPKernelApp" in shell.config


@contextlib.contextmanager
def shown_log() -> Iterator[None]:
    """Within it our log is printed on stdout, a plain line each, if it would be hidden else.

    It is hidden where nobody has asked for it: absl, by which we log, then shows warnings
    only. A program that has set up absl's log keeps it as it is.
    """
    verbosity = logging.get_verbosity()
    if verbosity >= logging.INFO:
        yield
        return
    logger = logging.get_absl_logger()
    handler, propagate = _Printer(), logger.propagate
    logging.set_verbosity(logging.INFO)
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.propagate = propagate
        logger.removeHandler(handler)
        logging.set_verbosity(verbosity)


class _Printer(std_logging.Handler):
    """Prints messages above the bars; `sys.stdout` is asked for anew, as notebooks change it."""

    def emit(self, record):
        tqdm.tqdm.write(record.getMessage(), file=sys.stdout)
