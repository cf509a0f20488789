"""Objects: modules of torch, and all others by what a copy of them would be made of."""

import copyreg
import re
import sys
import weakref
from types import BuiltinMethodType, MethodDescriptorType, MethodWrapperType, WrapperDescriptorType
from typing import Any

import torch
from torch import Tensor, nn

from funcbio.identity._functions import inner
from funcbio.identity._parts import IsLibrary, Leaf, Look, Parts, attributes, name_of, unseen
from funcbio.identity._spell import spell
from funcbio.identity._tensor import describe_tensor

NOTES = {"_compile_kwargs"}
"""What Lightning, once it is imported, notes on every module that is compiled."""

INTERNAL = (frozenset(vars(nn.Module())) - {"training"}) | NOTES
IN_C = BuiltinMethodType, MethodDescriptorType, MethodWrapperType, WrapperDescriptorType


def tensor(value: Tensor) -> Leaf:
    """Returns what a tensor holds."""
    try:
        return Leaf(describe_tensor(value))
    except Exception:  # Tensors without values, or with others behind them.
        return unseen(value)


def array(value: Any) -> Look:
    """Returns what an array or a number of numpy holds."""
    if value.dtype == object:
        return [("", Leaf(f"array {value.shape}")), (".values", value.tolist())]
    try:
        return tensor(torch.from_numpy(value.copy()).reshape(value.shape))
    except (TypeError, ValueError):  # Text and dates, say.
        return Leaf(f"{value.dtype} {spell(value.tolist()) or value.tolist()}")


def module(value: nn.Module) -> Parts:
    """Returns class, parameters, buffers, modules, hooks and attributes of a module."""
    if "_orig_mod" in value._modules:  # What torch.compile makes of a module.
        return [(".module", value._modules["_orig_mod"])]
    parts: Parts = [(".class", type(value))]
    for kind in ("_parameters", "_buffers", "_modules"):
        parts += [(f".{name}", item) for name, item in getattr(value, kind).items() if item is not None]
    hooks = {name: list(found.values()) for name, found in vars(value).items() if name.endswith("_hooks") and found}
    return parts + attributes({**hooks, **{name: item for name, item in vars(value).items() if name not in INTERNAL}})


def scripted(value: Any) -> Parts:
    """Returns the graph of what torch has compiled itself, and the tensors in it."""
    graph = getattr(value, "inlined_graph", None) or value.graph
    parts: Parts = [(".graph", re.sub(r" *# .*|___torch_mangle_\d+\.?", "", f"{graph}"))]  # Places in files; counters.
    if isinstance(value, nn.Module):
        parts += [*((f".{name}", item) for name, item in value.named_parameters()), (".training", value.training)]
        parts += [(f".{name}", item) for name, item in value.named_buffers()]
    return parts


def _home(value: Any, name: str) -> str | None:
    """The module of what is pickled by its name; functions of numpy before 2 do not say theirs."""
    home = type(value).__module__
    found = getattr(sys.modules.get(home), name, None) is value
    return getattr(value, "__module__", None) or (home if found else None)


def other(value: Any, library: IsLibrary) -> Look:
    """Returns the class of an object, and the state by which it is copied and pickled."""
    if isinstance(value, weakref.ref):
        return [(".target", value())]
    try:
        special = copyreg.dispatch_table.get(type(value))
        made: Any = value.__reduce_ex__(4) if special is None else special(value)
    except Exception:  # Each class has its own.
        if not hasattr(value, "__dict__"):
            return unseen(value)
        return [(".class", type(value)), *inner(value), *attributes(vars(value))]
    if isinstance(made, str):
        return inner(value) or (Leaf(name_of(value)) if library(_home(value, made)) else unseen(value))
    _, arguments, state, items, entries = (*made, None, None, None)[:5]
    rest = tuple(argument for argument in arguments or () if argument is not type(value) and argument is not object)
    parts: Parts = [(".class", type(value)), *attributes(state), *inner(value)]
    parts += [(".arguments", rest)] if rest and rest != (None,) else []
    parts += [(".items", list(items))] if items is not None else []
    return [*parts, (".entries", dict(entries))] if entries is not None else parts
