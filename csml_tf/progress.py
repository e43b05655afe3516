"""Progress bars, one look for all of them."""

import contextlib
import sys

import tqdm

# A bar that appears only when the work takes longer than this, in seconds.
_SHOW_AFTER_S = 2.0


@contextlib.contextmanager
def bar(total, description, unit):
    """A bar with the time left; gone from the screen when the work is done.

    Args:
        total: units of work.
        description: what is being done, in a word or two.
        unit: of the work, in the plural.

    Yields:
        function of the number of units just done.
    """
    with tqdm.tqdm(
        total=total,
        desc=description,
        unit=f" {unit}",
        delay=_SHOW_AFTER_S,
        leave=False,
        file=sys.stderr,
        dynamic_ncols=True,
    ) as tqdm_bar:
        yield tqdm_bar.update
