"""How the benchmarks sum up times and memory."""

import pathlib
import re
import resource
import statistics
import sys

_STATUS = pathlib.Path("/proc/self/status")


def spread(values, digits=4):
    """{"median", "min", "max", "n"} of a list of numbers, the three rounded to `digits`.

    Example:
        >>> spread([3.0, 1.0, 1.5])
        {'median': 1.5, 'min': 1.0, 'max': 3.0, 'n': 3}
    """
    return {
        "median": round(statistics.median(values), digits),
        "min": round(min(values), digits),
        "max": round(max(values), digits),
        "n": len(values),
    }


def peak_rss_mb():
    """The most memory that this process ever held, in units of 2**20 bytes."""
    # Linux' own figure where there is one: getrusage's begins with that of whoever started us.
    if _STATUS.exists():
        return int(re.search(r"VmHWM:\s*(\d+) kB", _STATUS.read_text())[1]) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
