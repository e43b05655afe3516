"""Which code this is: its version, and its git commit where there is one."""

import functools
import os
import pathlib
import subprocess

_FOLDER = pathlib.Path(__file__).resolve().parent
_GIT_SECONDS = 10


def describe():
    """Version and commit in a few words, such as "csml_tf 0.1.0, commit 1a2b... with changes"."""
    return f"csml_tf {version()}, commit {commit() or 'unknown'}"


def version():
    """The version of this package, as text."""
    from csml_tf import __version__  # Here: the package may be half imported above.

    return __version__


@functools.cache
def commit():
    """The git commit that this package is of.

    Returns:
        40 hexadecimal digits, with " with changes" behind them if a file of the repository
        differs from it; None where there is no git, or the package is no part of a repository.
    """
    # An environment may lie inside of a repository that has nothing to do with it.
    if _git("ls-files", "--error-unmatch", pathlib.Path(__file__).name) is None:
        return None
    commit_id = _git("rev-parse", "HEAD")
    if not commit_id:
        return None
    changes = _git("status", "--porcelain", "--untracked-files=no")
    return f"{commit_id} with changes" if changes else commit_id


def _git(*arguments):
    """What git prints about the folder of this package; None where it fails or is missing."""
    # Variables that git itself sets, in a hook for example, would name another repository.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        return subprocess.run(
            ["git", "-C", str(_FOLDER), *arguments],
            env={**environment, "GIT_OPTIONAL_LOCKS": "0"},
            check=True,
            capture_output=True,
            text=True,
            timeout=_GIT_SECONDS,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
