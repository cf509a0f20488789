"""Values and lists of names, as messages spell them."""

import inspect
from collections.abc import Iterable

from torch import Tensor

MOST_NAMES = 10
"""Most names that a list in a message shows."""

MOST_LETTERS = 200
"""Most letters of a value that a message shows."""


def listed(names: Iterable[object]) -> str:
    """Returns names with commas between: the first ten, and how many more there are.

    Example:
        >>> listed(range(12))
        '0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more'
    """
    texts = [f"{name}" for name in names]
    more = f" and {len(texts) - MOST_NAMES} more" if len(texts) > MOST_NAMES else ""
    return ", ".join(texts[:MOST_NAMES]) + more


def kind_of(value: object) -> str:
    """Returns a value as a message names it: "a Linear", "the class Linear", or "the function relu"."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if inspect.isroutine(value):
        return f"the function {getattr(value, '__name__', 'without a name')}"
    name = type(value).__name__
    return f"{'an' if name[0] in 'AEIOaeio' else 'a'} {name}"


def shown(value: object) -> str:
    """Returns a value, or the type, shape and device of a tensor, as text for a message."""
    if not isinstance(value, Tensor):
        return brief(value)
    return f"a tensor of {value.dtype}, shape {tuple(value.shape)}, on {value.device}"


def brief(value: object) -> str:
    """Returns a value for a message, on one line: its kind, if it would print as several lines or as an address.

    Example:
        >>> brief(0.5), brief(torch.eye(9).numpy()), brief(torch.relu)
        ('0.5', 'a ndarray', 'the function relu')
    """
    text = repr(value)
    several = "\n" in text or isinstance(value, type) or inspect.isroutine(value)
    if several:
        return shown(value) if isinstance(value, Tensor) else kind_of(value)
    return text[:MOST_LETTERS]
