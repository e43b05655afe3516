"""Prints how many processes should share the tests: one per core, as far as the memory goes.

Outside the package, so that it runs before anything imports TensorFlow.
"""

import contextlib
import os
import pathlib

import psutil

# A process that holds TensorFlow and half of the tests' graphs grows to about 2 GB.
_BYTES_PER_WORKER = 2.5e9
# Beyond, one process ends up with the longest tests and all others wait for it.
_MAX_WORKERS = 8


def count_cores():
    """Those that this process may use, which in a container are fewer than the machine has."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # Linux alone knows.
        return os.cpu_count() or 1


def free_bytes():
    """Memory that can be had without swapping; a container's limit counts where there is one."""
    limits = [psutil.virtual_memory().available]
    with contextlib.suppress(OSError, ValueError):  # "max" where there is no limit.
        limits.append(int(pathlib.Path("/sys/fs/cgroup/memory.max").read_text()))
    return min(limits)


if __name__ == "__main__":
    print(max(1, min(count_cores(), int(free_bytes() / _BYTES_PER_WORKER), _MAX_WORKERS)))
