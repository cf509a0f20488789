"""Numbers: Python's in the place of others, and whether they are within their limits.

Tensors are looked at on the CPU only, outside transforms and graphs.
"""

import operator
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor

from funcbio._checks._limits import LARGEST, Limit, is_within
from funcbio.base import brief, shown
from funcbio.tensors._kept import is_watched


def is_number(value: object) -> bool:
    """Returns True for a number that rules can take; see ``LARGEST``."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -LARGEST <= value <= LARGEST


def is_count(value: object) -> bool:
    """Returns True for an integer of 1 or more."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def plain_number(value: Any) -> Any:
    """Returns a Python number in the place of one of numpy or of fractions, with which tensors may not multiply."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return value
    return int(value) if isinstance(value, Integral) else float(value)


def plain_integer(value: Any) -> Any:
    """Returns a Python integer in the place of an integer of numpy or torch; anything else as it is."""
    if isinstance(value, bool | int | torch.SymInt) or (isinstance(value, Tensor) and value.dtype == torch.bool):
        return value
    try:
        return value if getattr(value, "ndim", 0) else operator.index(value)
    except (TypeError, RuntimeError):  # Transforms and graphs hide values of tensors.
        return value


def require_numbers(**hyper: object) -> None:
    """Raises ValueError if a hyper-parameter is neither a number nor a tensor of no dimensions."""
    for name, value in hyper.items():
        if not ((isinstance(value, Tensor) and value.ndim == 0 and not value.is_complex()) or is_number(value)):
            should = f"a number of magnitude {LARGEST:g} at most, or a tensor of no dimensions"
            raise ValueError(f"{name} should be {should}; found {shown(value)}")


def require_within(limits: Mapping[str, Limit], hyper: Mapping[str, Any]) -> None:
    """Raises ValueError if a hyper-parameter is out of its limit.

    Tensors are looked at on the CPU: not inside transforms and graphs, nor on a device for which the CPU would wait.
    """
    require_numbers(**hyper)
    for name, limit in limits.items():
        value = hyper[name]
        if isinstance(value, Tensor):
            fits = not _can_be_read(value) or is_within(_number(value, limit), limit)
        else:
            fits = is_within(value, limit)
        if not fits:
            raise ValueError(f"{name} should be {limit.should}; found {brief(value)}")
    if "minimum" in hyper and "maximum" in hyper:
        require_order("minimum", hyper["minimum"], "maximum", hyper["maximum"])


def require_order(low: str, least: Any, high: str, most: Any) -> None:
    """Raises ValueError if the first of two hyper-parameters is not less than the second, where both can be read."""
    comparable = all(_can_be_read(value) for value in (least, most) if isinstance(value, Tensor))
    # As Python's numbers: a tensor of half precision would round the other one.
    if comparable and not float(least) < float(most):
        raise ValueError(f"{low} should be less than {high}; found {least} and {most}")


def _number(value: Tensor, limit: Limit) -> float:
    """Returns a tensor's number; an integer if one is asked for and the number is whole, whatever the type."""
    number = value.item()
    return int(number) if limit.whole and isinstance(number, float) and number.is_integer() else number


def _can_be_read(value: Tensor) -> bool:
    return value.device.type == "cpu" and not is_watched()
