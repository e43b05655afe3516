"""The one exception that means: the user can mend this, here is how."""


class InputError(ValueError):
    """Bad input from outside: a path, a data set, a recipe, a flag.

    Its text is one sentence for the person at the terminal: what is wrong and
    what to do. The tools print it without a traceback and leave with exit code 2.
    Programming errors stay ordinary exceptions.
    """
