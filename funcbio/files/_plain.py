"""Values that a checkpoint can hold: those that ``torch.load`` gives back as they were, without running code."""

import re
import sys
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor  # pyright: ignore[reportMissingImports]

SHOULD = "a tensor, a number, a string, None, or a list, tuple, set or dictionary of them"
DEEPEST = 100
"""Levels of containers within one another; pickling follows them by recursion."""

LARGEST_BITS = 2000
"""Bits of the largest integers that torch reads."""

AS_THEY_ARE = (type(None), bool, int, float, complex, str, bytes, bytearray)
OF_TORCH = (torch.Size, torch.dtype, torch.device, torch.layout)
DICTIONARIES = (dict, OrderedDict, Counter)
PLAIN: dict[type, Callable[[Any], Any]] = {
    int: int.__int__,
    float: float.__float__,
    complex: lambda value: complex(value.real, value.imag),
    str: str.__str__,
    bytes: lambda value: bytes.__getitem__(value, slice(None)),
}
"""Functions that make the plain value of a number or string of a subclass, such as those of numpy and enumerations."""

ADVICE = {
    "state_dict": "make it a part of its own",
    "__array__": "torch.as_tensor makes a tensor of it",
    "__fspath__": "str makes a string of it",
    "_asdict": "_asdict makes a dictionary of it",
    "__dataclass_fields__": "dataclasses.asdict makes a dictionary of it",
}
"""Advice on values that are refused, by an attribute that they have."""


def plain(value: Any, where: str, above: tuple[int, ...] = ()) -> Any:
    """Returns a value as it can stand in a file; the same object if nothing needs to be changed.

    Numbers and strings of numpy and of enumerations become the plain ones that they equal.

    Args:
        value: The value.
        where: Its path, for the message.
        above: Identities of the containers around it.

    Raises:
        ValueError: If ``torch.load`` would refuse it, or change it; the message names the path.
    """
    kind = type(value)
    if isinstance(value, Tensor):
        return _tensor(value, where, above)
    if kind is int and value.bit_length() > LARGEST_BITS:
        _refuse(where, f"an integer of at most {LARGEST_BITS} bits", f"one of {value.bit_length()}")
    if kind is bytes and not value:
        _refuse(where, "bytes of which there are some", "none: torch.load does not read them")
    if kind in AS_THEY_ARE or kind in OF_TORCH:
        return value
    if id(value) in above or len(above) >= DEEPEST:
        _refuse(where, SHOULD, "a container in itself" if id(value) in above else f"more than {DEEPEST} levels of them")
    above = (*above, id(value))
    if kind in DICTIONARIES:
        return _dictionary(value, where, above)
    if kind is set:
        items = [_key(item, where) for item in value]
        return value if _same(items, value) else set(items)
    if kind in (list, tuple):
        items = [plain(item, f"{where}[{at}]", above) for at, item in enumerate(value)]
        return value if _same(items, value) else kind(items)
    return _number_or_string(value, where)


def _dictionary(value: Any, where: str, above: tuple[int, ...]) -> Any:
    entries = {_key(key, where): plain(item, f"{where}[{key!r:.60}]", above) for key, item in value.items()}
    attributes = plain(vars(value), f"vars({where})", above) if hasattr(value, "__dict__") else {}
    if (
        _same(entries.values(), value.values())
        and _same(entries, value)
        and attributes is getattr(value, "__dict__", attributes)
    ):
        return value
    copy = type(value)(entries)
    vars(copy).update(attributes) if attributes else None
    return copy


def _key(key: Any, where: str) -> Any:
    if type(key) is tuple:
        parts = tuple(_key(item, where) for item in key)
        return key if _same(parts, key) else parts
    if isinstance(key, Tensor):
        _refuse(f"a key of {where}", "a number, a string, None or a tuple of them", "a tensor")
    return plain(key, f"a key of {where}")


def _same(new: Any, old: Any) -> bool:
    return all(one is other for one, other in zip(new, old, strict=True))


def _tensor(value: Tensor, where: str, above: tuple[int, ...]) -> Tensor:
    should = "a plain tensor, with values"
    if type(value) not in (Tensor, torch.nn.Parameter):
        _refuse(where, should, f"a {type(value).__name__}")
    if value.is_nested:
        _refuse(where, should, "a nested one")
    if value.is_meta or is_functorch_wrapped_tensor(value):
        _refuse(where, should, "one on the device meta" if value.is_meta else "one within a transform")
    if re.fullmatch(r"torch\.u?int[1-7]", str(value.dtype)):
        _refuse(where, "a tensor of whole bytes", f"one of {value.dtype}")
    if vars(value):
        plain(vars(value), f"vars({where})", (*above, id(value)))
    return value


def _number_or_string(value: Any, where: str) -> Any:
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.number | numpy.bool_):
        value = value.item()  # A longdouble stays one.
    if type(value) in AS_THEY_ARE:
        return value
    for base, make in PLAIN.items():
        if isinstance(value, base):
            return make(value)
    return _refuse(where, SHOULD, f"{type(value).__module__}.{type(value).__qualname__}{_advice(value)}")


def _advice(value: Any) -> str:
    for name, advice in ADVICE.items():
        if hasattr(value, name):
            return f": {advice}"
    return ""


def _refuse(where: str, should: str, actual: str) -> Any:
    raise ValueError(f"{where} should be {should}, to be saved; found {actual}")
