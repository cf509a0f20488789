"""Functions and classes: those of libraries stand for their names, all others for what they do."""

import inspect
from collections.abc import Iterator
from enum import EnumMeta
from types import CodeType, FunctionType, ModuleType
from typing import Any

from funcbio.identity._code import digests, outer_names
from funcbio.identity._parts import IsLibrary, Leaf, Look, Parts, name_of, unseen

INNER = ("_torchdynamo_orig_callable", "_torchdynamo_inline", "__wrapped__")
"""Where callables of libraries keep the function that they were made of."""


def code(value: CodeType) -> Leaf:
    """Returns the checksums of code."""
    return Leaf({"code": digests(value)})


def function(value: FunctionType, library: IsLibrary) -> Look:
    """Returns code, defaults and what the code looks up around it; of a library, what was closed in."""
    home = value.__globals__.get("__name__")
    if library(home):
        # Of one that wraps another, name and module are those of the other.
        name = Leaf(f"{home}.{value.__code__.co_name}")
        cells = [(f":{name}", item) for name, item in _cells(value).items() if not hasattr(value, INNER[0])]
        return [("", name), *inner(value), *cells]
    parts: Parts = [(".code", value.__code__)]
    parts += [(".defaults", value.__defaults__)] if value.__defaults__ else []
    parts += [(".defaults", value.__kwdefaults__)] if value.__kwdefaults__ else []
    parts += list(dict(_around(value, library)).items())
    extra = {name: item for name, item in vars(value).items() if not name.startswith("__")}
    return [*parts, (".attributes", extra)] if extra else parts


def inner(value: Any) -> Parts:
    """Returns the function that another was made of."""
    found = [name for name in INNER if callable(getattr(value, name, None))]
    return [(".function", getattr(value, found[0]))] if found else []


def builtin(value: Any, library: IsLibrary) -> Look:
    """Returns the name of a function in C, and what it is bound to."""
    owner = getattr(value, "__self__", None)
    if owner is not None and not isinstance(owner, ModuleType | type):
        return [("", Leaf(value.__name__)), (".self", owner)]
    home = owner if owner is not None else getattr(value, "__objclass__", value)
    module = home.__name__ if isinstance(home, ModuleType) else getattr(home, "__module__", None)
    return Leaf(name_of(value)) if library(module or "builtins") else unseen(value)


def class_(value: type, library: IsLibrary) -> Look:
    """Returns bases and members; of a library, the name."""
    if library(value.__module__):
        return Leaf(name_of(value))
    if isinstance(value, EnumMeta):
        members: dict[str, Any] = dict(value.__members__)
        return [(f".{name}", item.value) for name, item in members.items()]
    parts: Parts = [(f".bases[{at}]", base) for at, base in enumerate(value.__bases__) if base is not object]
    parts += [(f".{name}", item) for name, item in sorted(vars(value).items()) if _is_member(value, name, item)]
    for name, field in vars(value).get("__dataclass_fields__", {}).items():
        parts += [(f".{name}", field.default_factory)] if isinstance(field.default_factory, type | FunctionType) else []
    return parts or Leaf("a class without members")


def _is_member(value: type, name: str, item: Any) -> bool:
    """Whether a class was given this by its author; what its decorators and Python add differs between versions."""
    made = inspect.unwrap(item) if callable(item) else item
    if hasattr(value, "__dataclass_fields__") and isinstance(made, FunctionType):
        return made.__code__.co_filename != "<string>"
    special = name.startswith("__") and name.endswith("__")
    return name != "_abc_impl" and not name.startswith("__annotat") and (callable(item) or not special)


def _cells(value: FunctionType) -> dict[str, Any]:
    found = {}
    for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # Empty: not set yet.
            continue
    return found


def _around(value: FunctionType, library: IsLibrary) -> Iterator[tuple[str, Any]]:
    """What the names that the code loads stand for now, as deep as they are spelled out."""
    cells = _cells(value)
    for first, *rest in outer_names(value.__code__):
        space = cells if first in value.__code__.co_freevars else value.__globals__
        if first.startswith("__") or first not in space:
            continue
        name, found = first, space[first]
        for attribute in rest:
            known = isinstance(found, ModuleType) and library(found.__name__)
            if known or attribute not in getattr(found, "__dict__", {}):
                break
            name, found = f"{name}.{attribute}", getattr(found, attribute)
        yield f":{name}", found
