"""Descriptions of things: a flat table of all their parts, by path, that a file can hold.

Values are spelled. The user's functions stand for their code, their defaults and the values that the code looks up
outside; functions and classes of libraries for their names; objects for the state that a copy would be made of.
Addresses, lines, names of files and devices, and the order of sets and dictionaries are left out.
"""

from collections import Counter
from enum import Enum
from functools import partial
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from funcbio.identity import _functions, _objects
from funcbio.identity._library import is_library
from funcbio.identity._parts import IsLibrary, Leaf, LeafOrParts, Parts, name_of
from funcbio.identity._spell import DICTIONARIES, SEQUENCES, SETS, shortened, spell

Seen = dict[str, Any]
"""Entries by path: text, or a dictionary of one of the kinds that ``compare`` compares."""

CONTAINERS = (*DICTIONARIES, *SEQUENCES, *SETS)


def describe(things: dict[str, Any], library: IsLibrary = is_library) -> Seen:
    """Returns the table of several things by name.

    Args:
        things: The things.
        library: Returns True for a module whose code is described by its name.

    Example:
        >>> from functools import partial
        >>> describe({"loss": partial(torch.nn.functional.cross_entropy, label_smoothing=0.5)})
        {'loss.func': 'torch.nn.functional.cross_entropy', 'loss.keywords': "{'label_smoothing': 0.5}"}
    """
    table = _Table(library)
    for name, thing in things.items():
        table.add(name, thing)
    return table.seen


class _Table:
    def __init__(self, library: IsLibrary) -> None:
        self.library, self.seen = library, Seen()
        self.paths: dict[int, str] = {}
        self.alive: list[Any] = []  # So that no later object gets the ``id`` of one in the table.
        self.open: set[int] = set()

    def add(self, path: str, value: Any) -> None:
        """Adds a thing with all its parts, in the same order in every process."""
        text = spell(value)
        if text is not None or isinstance(value, Leaf):
            self.seen[path] = shortened(text) if text is not None else value.shown
            return
        identity, repeats = id(value), type(value) not in CONTAINERS  # Equal lists may be one or two.
        if identity in self.paths and (repeats or identity in self.open):
            self.seen[path] = f"see {self.paths[identity]}"
            return
        self.paths[identity] = path
        self.alive.append(value)
        self.open.add(identity)
        try:
            content = parts_of(value, self.library)
        except Exception:  # Objects may raise anything when they are inspected.
            content = Leaf({"unseen": type(value).__qualname__})
        for end, part in [("", content)] if isinstance(content, Leaf) else content:
            self.add(path + end, part)
        self.open.discard(identity)


def parts_of(value: Any, library: IsLibrary) -> LeafOrParts:
    """Returns the parts of a thing, one level deep, or the leaf that it is."""
    if type(value) in CONTAINERS:
        return _container(value)
    if isinstance(value, Tensor):
        return _objects.tensor(value)
    if isinstance(value, torch.device):
        return Leaf("a device")
    if isinstance(value, ModuleType):
        return Leaf(f"module {value.__name__}")
    if isinstance(value, Enum):
        return [("", Leaf(f"{type(value).__qualname__}.{value.name}")), (".value", value.value)]
    if type(value).__module__ == "numpy" and hasattr(value, "dtype") and hasattr(value, "tobytes"):
        return _objects.array(value)
    if isinstance(value, CodeType):
        return _functions.code(value)
    if isinstance(value, type):
        return _functions.class_(value, library)
    if isinstance(value, FunctionType):
        return _functions.function(value, library)
    return _callable(value, library)


def _container(value: Any) -> Parts:
    if type(value) in SEQUENCES:
        return [(f"[{at}]", item) for at, item in enumerate(value)]
    pairs = value.items() if type(value) in DICTIONARIES else ((item, item) for item in value)
    named = sorted(((spell(key) or name_of(key), item) for key, item in pairs), key=lambda pair: pair[0])
    counts: Counter[str] = Counter()
    parts: Parts = []
    for name, item in named:
        parts.append((f"[{name}]{counts[name] or ''}", item))
        counts[name] += 1
    return parts


def _callable(value: Any, library: IsLibrary) -> LeafOrParts:
    if isinstance(value, partial):
        bound = [(".args", value.args), (".keywords", value.keywords)]
        return [(".func", value.func), *((name, arguments) for name, arguments in bound if arguments)]
    if isinstance(value, MethodType | staticmethod | classmethod):
        owner = [(".self", value.__self__)] if isinstance(value, MethodType) else []
        return [(".function", value.__func__), *owner]
    if isinstance(value, property):
        functions = {".get": value.fget, ".set": value.fset, ".delete": value.fdel}
        return [(name, function) for name, function in functions.items() if function is not None]
    if isinstance(value, _objects.IN_C):
        return _functions.builtin(value, library)
    if isinstance(value, torch.jit.ScriptModule | torch.jit.ScriptFunction):
        return _objects.scripted(value)
    return _objects.module(value) if isinstance(value, nn.Module) else _objects.instance(value, library)
