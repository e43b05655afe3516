"""Which values a knob or a setting may have: its type and its range, checked in one way.

A rule is a function of a value that returns what the value must be, in words, where it is not;
and None where it is.
"""

from __future__ import annotations

import ast
import math
import numbers
from collections.abc import Iterable
from typing import Any, Callable

from csml_tf.errors import InputError

Rule = Callable[[Any], "str | None"]

# What fits everywhere: TensorFlow's int32, and seeds.
_LARGEST = 2**31 - 1


def whole(least: int, largest: int = _LARGEST) -> Rule:
    """A whole number, from `least` to `largest`; True and 2.0 are none."""
    text = f"a whole number from {least}"
    return _rule(
        text if largest == _LARGEST else f"{text} to {largest}",
        lambda value: _is_whole(value) and least <= value <= largest,
    )


def above(bound: float, largest: float = math.inf) -> Rule:
    """A finite number above `bound`, and at most `largest`."""
    text = f"a number above {bound}"
    return _rule(
        text if math.isinf(largest) else f"{text} and at most {largest}",
        lambda value: _is_finite(value) and bound < value <= largest,
    )


def at_least(bound: float, largest: float = math.inf) -> Rule:
    """A finite number from `bound` to `largest`."""
    return _rule(
        f"a number from {bound}" + ("" if math.isinf(largest) else f" to {largest}"),
        lambda value: _is_finite(value) and bound <= value <= largest,
    )


def truth() -> Rule:
    """True or False."""
    return _rule("True or False", lambda value: isinstance(value, bool))


def text() -> Rule:
    """A text that is not empty and that can be written to a file."""
    return _rule("a text in quotes", lambda value: isinstance(value, str) and _is_utf8(value))


def one_of(choices: Iterable[Any]) -> Rule:
    """One of a few values, of the same type."""
    choices = list(choices)
    return _rule(
        f"one of {', '.join(map(repr, choices))}",
        lambda value: any(type(value) is type(each) and value == each for each in choices),
    )


def several(count: int, rule: Rule) -> Rule:
    """A tuple or list of `count` values, each as a rule says."""
    return _rule(
        f"{count} values in brackets, each {rule.__doc__}",
        lambda value: (
            isinstance(value, (tuple, list))
            and len(value) == count
            and not any(rule(one) for one in value)
        ),
    )


def table(keys: Rule, values: Rule) -> Rule:
    """A dictionary that is not empty."""
    return _rule(
        f"{{key: value}}, a key {keys.__doc__}, a value {values.__doc__}",
        lambda value: (
            isinstance(value, dict)
            and bool(value)
            and not any(keys(key) or values(one) for key, one in value.items())
        ),
    )


def number() -> Rule:
    """Any number, infinite ones and NaN too."""
    return _rule(
        "a number", lambda value: isinstance(value, numbers.Real) and not isinstance(value, bool)
    )


def each(rule: Rule) -> Rule:
    """A list, each value as a rule says."""
    return _rule(
        f"a list, each {rule.__doc__}",
        lambda value: isinstance(value, list) and not any(rule(one) for one in value),
    )


def fields(rules: dict[str, Rule], others: dict[str, Rule] | None = None) -> Rule:
    """A dictionary with these keys at least, and perhaps others, each value as a rule says."""
    others = others or {}
    return _rule(
        f"an object with {', '.join(rules)}" if rules else "an object",
        lambda value: (
            isinstance(value, dict)
            and not any(key not in value or rule(value[key]) for key, rule in rules.items())
            and not any(key in value and rule(value[key]) for key, rule in others.items())
        ),
    )


def or_none(rule: Rule) -> Rule:
    """As a rule says, or None."""
    return _rule(f"{rule.__doc__}, or None", lambda value: value is None or not rule(value))


def check(name: str, value: Any, rule: Rule) -> None:
    """Raises `InputError` with a sentence about the name unless the value is as the rule says.

    Example:
        >>> check("WIDTH", "8", whole(1))
        Traceback (most recent call last):
        csml_tf.errors.InputError: WIDTH must be a whole number from 1, got '8': write 8.
    """
    wanted = rule(value)
    if wanted:
        better = _nearest(value, rule)
        advice = "mend the value" if better is None else f"write {better!r}"
        raise InputError(f"{name} must be {wanted}, got {value!r}: {advice}.")


def _rule(wanted, is_good):
    def rule(value):
        return None if is_good(value) else wanted

    rule.__doc__ = wanted  # For rules that are made of rules.
    return rule


def _nearest(value, rule):
    """What was meant by a number in quotes, or by 2.0 for a whole number; None if unclear."""
    meant = value
    if isinstance(value, str):
        try:
            meant = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return None
    if isinstance(meant, float) and meant.is_integer() and rule(meant):
        meant = int(meant)
    return None if meant is value or meant is None or rule(meant) else meant


def _is_whole(value):
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _is_finite(value):
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    try:
        return is_number and math.isfinite(value)
    except OverflowError:  # A whole number too large for a float.
        return False


def _is_utf8(value):
    try:
        return bool(value.encode())
    except UnicodeEncodeError:
        return False
