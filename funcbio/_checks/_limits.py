"""Limits of hyper-parameters, each written once."""

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, NamedTuple

LARGEST = 1e15
"""Largest magnitude of a hyper-parameter: products of two of them stay in the range of float32."""


class Limit(NamedTuple):
    """Limits the values of a hyper-parameter.

    Attributes:
        should: What a value should be, for messages.
        holds: Returns whether a number, or a tensor of no dimensions, is within the limit.
        whole: Whether numbers have to be integers.
    """

    should: str
    holds: Callable[[Any], Any]
    whole: bool = False


POSITIVE = Limit("a number > 0", lambda value: value > 0)

NOT_NEGATIVE = Limit("a number >= 0", lambda value: value >= 0)

FRACTION = Limit("a number in (0, 1)", lambda value: (value > 0) & (value < 1))

FRACTION_OR_ONE = Limit("a number in (0, 1]", lambda value: (value > 0) & (value <= 1))

SHARE = Limit("a number in [0, 1]", lambda value: (value >= 0) & (value <= 1))

BELOW_ONE = Limit("a number in [0, 1)", lambda value: (value >= 0) & (value < 1))

COUNT = Limit("an integer >= 1", lambda value: value >= 1, whole=True)

COUNT_OR_NONE = Limit("an integer >= 0", lambda value: value >= 0, whole=True)

INTEGER = Limit("an integer", lambda value: value == value, whole=True)


def is_within(value: object, limit: Limit) -> bool:
    """Returns True if a number is of the kind that a limit asks for, not too large for rules, and within the limit."""
    kind = isinstance(value, Integral if limit.whole else Real) and not isinstance(value, bool)
    return kind and -LARGEST <= value <= LARGEST and bool(limit.holds(value))  # pyright: ignore[reportOperatorIssue]


def is_large(number: Any) -> bool:
    """Returns True if a number is out of the range of the rules; also if it is not finite."""
    return not -LARGEST <= number <= LARGEST


def large_hint(value: object) -> str:
    """Returns, for a message, how large a number may be; "" if that is not what is wrong with it."""
    return (
        f", of magnitude {LARGEST:g} at most" if isinstance(value, Real) and value == value and is_large(value) else ""
    )
