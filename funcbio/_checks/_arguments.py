"""Arguments of functions: their names, and values of simple kinds."""

import inspect
import os
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from typing import Any, TypeVar, cast

from torch import nn

from funcbio.base import brief, kind_of, nearest, perhaps


def require(name: str, value: object, should: str, holds: bool) -> None:
    """Raises ValueError if the check of an argument failed."""
    if not holds:
        raise ValueError(f"{name} should be {should}; found {brief(value)}")


def require_module(model: object) -> None:
    """Raises TypeError if the argument ``model`` is no module."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"model should be an nn.Module; found {'None' if model is None else kind_of(model)}")


def require_path(name: str, path: object) -> None:
    """Raises TypeError if an argument is no path of a file or folder."""
    if not isinstance(path, str | bytes | os.PathLike):
        raise TypeError(f"{name} should be a path, a text or an os.PathLike; found {brief(path)}")


def check_compile(compile: object) -> None:
    """Raises ValueError if ``compile`` is neither True nor False nor None."""
    if not (compile is None or isinstance(compile, bool)):
        raise ValueError(f"compile should be True, False or None; found {brief(compile)}")


def is_listing(value: object) -> bool:
    """Returns True for several values in an order: neither a text nor a set, whose order changes from run to run."""
    return isinstance(value, Iterable) and not isinstance(value, str | set | frozenset)


def order_hint(value: object) -> str:
    """Returns, for a message, why a set is no list; "" for anything else."""
    return ": a set has no order" if isinstance(value, set | frozenset) else ""


Call = TypeVar("Call", bound=Callable[..., Any])


def names_arguments(elsewhere: Mapping[str, str]) -> Callable[[Call], Call]:
    """Makes a function refuse an unknown keyword with the nearest argument, or the place where it belongs.

    Args:
        elsewhere: Where keywords belong that are no arguments of the function.
    """

    def named(function: Call) -> Call:
        known = [*inspect.signature(function).parameters]

        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            for name in kwargs:
                if name not in known:
                    near = nearest(name, [*known, *elsewhere])
                    should = f"an argument of {function.__name__}{perhaps(name, known)}"
                    if name in elsewhere or near in elsewhere:
                        should = elsewhere.get(name) or f"{near}, {elsewhere[near]}"
                    raise TypeError(f"{name} should be {should}; found an unknown name")
            return function(*args, **kwargs)

        return cast(Call, call)

    return named
