"""What a long work shows: bars of one look, a line now and then where stderr is a file."""

import contextlib
import logging as std_logging
import sys
import time
from collections.abc import Iterator
from typing import Any, Callable, Optional, Union

import tqdm
from absl import logging

# A bar that appears only when the work takes longer than this, in seconds.
_SHOW_AFTER_S = 2.0
# Between two lines in a file, in seconds.
_LINE_EVERY_S = 30.0


class LineBar:
    """Stands in for a bar where nobody watches: a whole line each half minute, and nothing else.

    Args:
        total: units of work.
        desc: what is being done.
        initial: units that were done before.
        unit: of the work, as `tqdm.tqdm` takes it.
        bar_format: likewise.
        **options: what a bar on a screen takes besides; not used.
    """

    def __init__(
        self,
        total: int,
        desc: str = "",
        initial: int = 0,
        unit: str = "it",
        bar_format: Optional[str] = None,
        **options: Any,
    ):
        del options
        self._options = {"prefix": desc, "total": total, "unit": unit, "bar_format": bar_format}
        self._initial = self._done = initial
        self._postfix = ""
        self._started = self._shown = time.perf_counter()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def update(self, n: int = 1) -> None:
        """Counts units; writes a line when it is time."""
        self._done += n
        now = time.perf_counter()
        if now - self._shown >= _LINE_EVERY_S:
            self._shown = now
            options = {**self._options, "postfix": self._postfix, "ascii": True, "ncols": None}
            line = tqdm.tqdm.format_meter(
                n=self._done, initial=self._initial, elapsed=now - self._started, **options
            )
            print(line, file=sys.stderr, flush=True)

    def set_postfix_str(self, text: str) -> None:
        """What the next line ends with."""
        self._postfix = text

    def close(self) -> None:
        """Nothing is left to take away."""


def make_bar(**options: Any) -> Union[tqdm.tqdm, LineBar]:
    """A bar that is gone from the screen when it is closed; in a notebook one of the notebook's.

    Where stderr is no terminal it is a `LineBar`.

    Args:
        **options: of `tqdm.tqdm`.
    """
    make = tqdm.tqdm
    if not in_notebook():
        if not sys.stderr.isatty():
            return LineBar(**options)
    else:
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
