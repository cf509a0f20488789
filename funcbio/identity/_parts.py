"""Types of a description: a leaf, or the parts of an object."""

import re
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple, TypeAlias

ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")

IsLibrary: TypeAlias = Callable[[str | None], bool]
"""Returns True if the code of a module is described by its name."""


class Leaf(NamedTuple):
    """Holds a value that has no parts of its own.

    Attributes:
        shown: Text, or a dictionary of one of the kinds that ``compare`` compares.
    """

    shown: Any


Parts: TypeAlias = list[tuple[str, Any]]
"""Pairs of the end of a part's path, and the part, which may be a leaf."""

LeafOrParts: TypeAlias = Leaf | Parts


def unseen(value: Any) -> Leaf:
    """Returns a leaf for a value that cannot be compared."""
    return Leaf({"unseen": name_of(value)})


def name_of(value: Any) -> str:
    """Returns the name of a function, class or module; of another object, that of its class."""
    if isinstance(value, ModuleType):
        return value.__name__
    named = value if callable(value) and hasattr(value, "__name__") else type(value)
    module = getattr(named, "__module__", None) or getattr(getattr(named, "__objclass__", None), "__module__", None)
    name = getattr(named, "__qualname__", None) or named.__name__
    return ADDRESS.sub("", name if module in (None, "builtins") else f"{module}.{name}")


def attributes(state: Any) -> Parts:
    """Returns the entries of an object's dictionary, each behind a dot; another state as it is."""
    if isinstance(state, tuple) and len(state) == 2 and all(isinstance(part, dict | None) for part in state):
        return [pair for part in state if part for pair in attributes(part)]  # Also slots.
    if isinstance(state, dict) and all(isinstance(name, str) for name in state):
        return [(f".{name}", state[name]) for name in sorted(state)]
    return [] if state is None else [(".state", state)]
