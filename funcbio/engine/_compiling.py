"""Functions that torch compiles, each of which counts its compilations for itself."""

from itertools import count
from types import FunctionType

NUMBERS = count()


def with_own_code(function: FunctionType) -> FunctionType:
    """Returns a copy with a code object of its own: torch counts compilations by code, and refuses after a few."""
    code = function.__code__.replace(co_name=f"{function.__name__}_{next(NUMBERS)}")
    return FunctionType(code, function.__globals__, code.co_name, function.__defaults__, function.__closure__)
