"""Numbers as a sentence has them: "1 epoch", "9,469 images", "11.2 million", "0.4 MB"."""

_MILLION = 10**6
_BYTES_OF_A_MEGABYTE = 10**6


def count(number: int, noun: str) -> str:
    """A number of things.

    Args:
        number: at least 0.
        noun: what one of them is called.

    Example:
        >>> count(1, "class"), count(2, "class"), count(9469, "image"), count(2, "epoch")
        ('1 class', '2 classes', '9,469 images', '2 epochs')
    """
    return f"{number:,} {noun if number == 1 else _plural(noun)}"


def are(number: int) -> str:
    """The verb behind a number of things: "is" or "are"."""
    return "is" if number == 1 else "are"


def large(number: int) -> str:
    """A number of which the first three digits matter where it is large.

    Example:
        >>> large(8123), large(694_208), large(11_168_832)
        ('8,123', '0.694 million', '11.2 million')
    """
    return f"{number:,}" if number < _MILLION / 10 else f"{number / _MILLION:.3g} million"


def megabytes(num_bytes: float) -> str:
    """An amount of memory.

    Example:
        >>> megabytes(44_712_345), megabytes(312_000)
        ('45 MB', '0.31 MB')
    """
    megas = num_bytes / _BYTES_OF_A_MEGABYTE
    return f"{megas:,.0f} MB" if megas >= 10 else f"{megas:.2g} MB"


def _plural(noun):
    return f"{noun}es" if noun.endswith(("s", "x", "tch")) else f"{noun}s"
