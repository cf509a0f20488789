"""Functions and classes: those of libraries are described by their names, all others by their code."""

import inspect
from collections.abc import Iterator
from enum import EnumMeta
from types import CodeType, FunctionType, ModuleType
from typing import Any

from funcbio.identity._code import digests, outer_names
from funcbio.identity._parts import IsLibrary, Leaf, LeafOrParts, Parts, name_of, unseen

INNER = ("_torchdynamo_orig_callable", "_torchdynamo_inline", "__wrapped__")
"""Attributes in which callables of libraries keep the function that they were made of."""


def code(value: CodeType) -> Leaf:
    """Returns the checksums of code."""
    return Leaf({"code": digests(value)})


def function(value: FunctionType, library: IsLibrary) -> LeafOrParts:
    """Returns code, defaults and the values of its outer names; of a library's function, name and closure."""
    home = value.__globals__.get("__name__")
    if library(home):
        # Not by __name__ and __module__: a wrapper has those of the wrapped function.
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
    names = [name for name in INNER if callable(getattr(value, name, None))]
    return [(".function", getattr(value, names[0]))] if names else []


def builtin(value: Any, library: IsLibrary) -> LeafOrParts:
    """Returns the name of a function in C, and the object that it is bound to."""
    owner = getattr(value, "__self__", None)
    if owner is not None and not isinstance(owner, ModuleType | type):
        return [("", Leaf(value.__name__)), (".self", owner)]
    home = owner if owner is not None else getattr(value, "__objclass__", value)
    module = home.__name__ if isinstance(home, ModuleType) else getattr(home, "__module__", None)
    return Leaf(name_of(value)) if library(module or "builtins") else unseen(value)


def class_(value: type, library: IsLibrary) -> LeafOrParts:
    """Returns bases and members of a class; of a library's class, the name."""
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
    """Returns True if the author wrote this member; additions of decorators and of Python differ between versions."""
    unwrapped = inspect.unwrap(item) if callable(item) else item
    if hasattr(value, "__dataclass_fields__") and isinstance(unwrapped, FunctionType):
        return unwrapped.__code__.co_filename != "<string>"
    special = name.startswith("__") and name.endswith("__")
    return name != "_abc_impl" and not name.startswith("__annotat") and (callable(item) or not special)


def _cells(value: FunctionType) -> dict[str, Any]:
    contents = {}
    for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
        try:
            contents[name] = cell.cell_contents
        except ValueError:  # Empty: not set yet.
            continue
    return contents


def _around(value: FunctionType, library: IsLibrary) -> Iterator[tuple[str, Any]]:
    """Yields the outer names that the code loads, with their values now, as deep as they are spelled out."""
    cells = _cells(value)
    for first, *attributes in outer_names(value.__code__):
        space = cells if first in value.__code__.co_freevars else value.__globals__
        if first.startswith("__") or first not in space:
            continue
        name, item = first, space[first]
        for attribute in attributes:
            in_library = isinstance(item, ModuleType) and library(item.__name__)
            if in_library or attribute not in getattr(item, "__dict__", {}):
                break
            name, item = f"{name}.{attribute}", getattr(item, attribute)
        yield f":{name}", item
