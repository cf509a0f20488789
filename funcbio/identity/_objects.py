"""Objects: modules of torch, and all others by the state that a copy would be made of."""

import copyreg
import re
import sys
import weakref
from types import BuiltinMethodType, MethodDescriptorType, MethodWrapperType, WrapperDescriptorType
from typing import Any

import torch
from torch import Tensor, nn

from funcbio.identity._functions import inner
from funcbio.identity._parts import IsLibrary, Leaf, LeafOrParts, Parts, attributes, name_of, unseen
from funcbio.identity._spell import spell
from funcbio.identity._tensor import describe_tensor

NOTES = {"_compile_kwargs"}
"""Attributes that Lightning, once it is imported, sets on every module that is compiled."""

INTERNAL = (frozenset(vars(nn.Module())) - {"training"}) | NOTES
IN_C = BuiltinMethodType, MethodDescriptorType, MethodWrapperType, WrapperDescriptorType


def tensor(value: Tensor) -> Leaf:
    """Returns the checksum and numbers of a tensor."""
    try:
        return Leaf(describe_tensor(value))
    except Exception:  # Tensors without values, or wrappers of others.
        return unseen(value)


def array(value: Any) -> LeafOrParts:
    """Returns the values of an array or a number of numpy."""
    if value.dtype == object:
        return [("", Leaf(f"array {value.shape}")), (".values", value.tolist())]
    try:
        return tensor(torch.from_numpy(value.copy()).reshape(value.shape))
    except (TypeError, ValueError):  # Text and dates, say.
        return Leaf(f"{value.dtype} {spell(value.tolist()) or value.tolist()}")


def module(value: nn.Module) -> Parts:
    """Returns class, parameters, buffers, modules, hooks and attributes of a module."""
    if "_orig_mod" in value._modules:  # A module compiled by torch.compile.
        return [(".module", value._modules["_orig_mod"])]
    parts: Parts = [(".class", type(value))]
    for kind in ("_parameters", "_buffers", "_modules"):
        parts += [(f".{name}", item) for name, item in getattr(value, kind).items() if item is not None]
    hooks = {
        name: list(registered.values())
        for name, registered in vars(value).items()
        if name.endswith("_hooks") and registered
    }
    return parts + attributes({**hooks, **{name: item for name, item in vars(value).items() if name not in INTERNAL}})


def scripted(value: Any) -> Parts:
    """Returns the graph of a scripted module or function, and its tensors."""
    graph = getattr(value, "inlined_graph", None) or value.graph
    parts: Parts = [(".graph", re.sub(r" *# .*|___torch_mangle_\d+\.?", "", f"{graph}"))]  # Places in files; counters.
    if isinstance(value, nn.Module):
        parts += [*((f".{name}", item) for name, item in value.named_parameters()), (".training", value.training)]
        parts += [(f".{name}", item) for name, item in value.named_buffers()]
    return parts


def _home(value: Any, name: str) -> str | None:
    """Returns the module of an object that is pickled by its name; numpy's functions before version 2 name none."""
    home = type(value).__module__
    importable = getattr(sys.modules.get(home), name, None) is value
    return getattr(value, "__module__", None) or (home if importable else None)


def instance(value: Any, library: IsLibrary) -> LeafOrParts:
    """Returns the class of an object, and the state by which it is copied and pickled."""
    if isinstance(value, weakref.ref):
        return [(".target", value())]
    try:
        special = copyreg.dispatch_table.get(type(value))
        reduced: Any = value.__reduce_ex__(4) if special is None else special(value)
    except Exception:  # A class may raise anything.
        if not hasattr(value, "__dict__"):
            return unseen(value)
        return [(".class", type(value)), *inner(value), *attributes(vars(value))]
    if isinstance(reduced, str):
        return inner(value) or (Leaf(name_of(value)) if library(_home(value, reduced)) else unseen(value))
    _, arguments, state, items, entries = (*reduced, None, None, None)[:5]
    remaining = tuple(
        argument for argument in arguments or () if argument is not type(value) and argument is not object
    )
    parts: Parts = [(".class", type(value)), *attributes(state), *inner(value)]
    parts += [(".arguments", remaining)] if remaining and remaining != (None,) else []
    parts += [(".items", list(items))] if items is not None else []
    return [*parts, (".entries", dict(entries))] if entries is not None else parts
