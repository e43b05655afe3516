"""The one exception that means: the user can mend this, here is how; and its wording."""

import difflib
import re
import sys
from collections.abc import Iterable


class InputError(ValueError):
    """Bad input from outside: a path, a data set, a recipe, a flag.

    Its text is one sentence for the person at the terminal: what is wrong and
    what to do. The commands print it without a traceback and leave with exit code 2,
    or 1 where it was raised from a disk that is full or may not be written to.
    Programming errors stay ordinary exceptions.
    """


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """The nearest of the known names, in brackets behind a wrong one; "" where none is near.

    Example:
        >>> did_you_mean("EPOCSH", ["WIDTH", "EPOCHS"])
        " (did you mean 'EPOCHS'?)"
    """
    near = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.5)
    return f" (did you mean {near[0]!r}?)" if near else ""


def first_line(error):
    """The first line of an error's text, without what TensorFlow adds about its graph.

    Example:
        >>> first_line(OSError("{{node a}} b; No space left on device [Op:SaveV2]"))
        'b; No space left on device'
    """
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return re.sub(r"\{\{.*?\}\}|\[\[.*|\[Op:.*", "", lines[0]).strip().rstrip(".")


def is_of_another_worker(error):
    """Whether TensorFlow says that a worker this one waited for has died or hangs."""
    aborted = "Collective ops is aborted" in str(error)
    return aborted or isinstance(error, of_tensorflow("DeadlineExceededError"))


def of_tensorflow(name: str) -> tuple[type[Exception], ...]:
    """A class of `tf.errors`, for `except` and `isinstance`, without importing TensorFlow.

    Returns:
        The class alone, or nothing where TensorFlow has not been imported, and so raised nothing.
    """
    errors = getattr(sys.modules.get("tensorflow"), "errors", None)
    return () if errors is None else (getattr(errors, name),)
