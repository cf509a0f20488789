"""The first step of an optimizer after methods were called: one warning if what they changed has no effect on it."""

from collections.abc import Iterable, Mapping
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import torch
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.hooks import RemovableHandle

from funcbio.functional._idle import cancelled, unapplied, updating, warn
from funcbio.mechanisms import Row

FOUND = "methods of the model, which act on the gradient: name them in funcbio.attach(optimizer, model, [...]) instead"
_waiting: "WeakKeyDictionary[Any, dict[str, Row]]" = WeakKeyDictionary()
"""Overviews of models, and layers, that wait for a step, each with the methods that have changed what it applies."""
_stepped: "WeakSet[Any]" = WeakSet()
"""Layers whose methods were called by themselves, and whose weights an optimizer has stepped since."""
_hooks: list[RemovableHandle] = []
"""The one hook on all optimizers, while a model waits."""


def matters(row: Row, layers: Iterable[Any]) -> bool:
    """Returns True if what a method changes may be without effect on the next step, from all that layers know."""
    if row.scales or row.applied_by is None:
        return row.scales
    applied = any(layer.attached or layer.features for layer in layers)  # Perhaps by an optimizer, or a user's method.
    return not applied and not any(row.idle is not None and row.idle(layer.config) for layer in layers)


def await_step(overview: Any, name: str, row: Row) -> None:
    """Waits for the first step of an optimizer that holds weights of a model, after a method was called on it."""
    _waiting.setdefault(overview, {})[name] = row
    if not _hooks:
        _hooks.append(register_optimizer_step_pre_hook(_look))


def await_step_of(layer: Any, name: str, row: Row) -> None:
    """Waits likewise, once, after a method of one layer was called by itself."""
    stop_waiting()
    if layer not in _stepped and not layer.attached and not torch.compiler.is_compiling():
        await_step(layer, name, row)


def stop_waiting() -> None:
    """Takes the hook away if no model waits: it cannot do that itself, while torch goes through the hooks."""
    if _hooks and not _waiting:
        _hooks.pop().remove()


def _look(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    del args, kwargs
    if torch.compiler.is_compiling() or not _waiting:
        return
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    called: dict[str, Row] = {}
    for waiting, names in [*_waiting.items()]:
        if any(id(weight) in held for weight in _weights(waiting)):
            del _waiting[waiting]
            _see(waiting)
            called |= names
    _warn(optimizer, called)


def _weights(waiting: Any) -> list[Any]:
    return waiting.weights() if hasattr(waiting, "weights") else [waiting.weight]


def _see(waiting: Any) -> None:
    if hasattr(waiting, "see_step"):
        waiting.see_step()
    else:
        _stepped.add(waiting)


def _warn(optimizer: Optimizer, called: Mapping[str, Row]) -> None:
    reason = cancelled([name for name, row in called.items() if row.scales], updating(optimizer), FOUND)
    warn([*unapplied(called), *([] if reason is None else [reason])])
