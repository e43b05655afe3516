"""The one exception that means: the user can mend this, here is how; and its wording."""

import re

import tensorflow as tf


class InputError(ValueError):
    """Bad input from outside: a path, a data set, a recipe, a flag.

    Its text is one sentence for the person at the terminal: what is wrong and
    what to do. The tools print it without a traceback and leave with exit code 2,
    or 1 where it was raised from a disk that is full or may not be written to.
    Programming errors stay ordinary exceptions.
    """


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
    return aborted or isinstance(error, tf.errors.DeadlineExceededError)
