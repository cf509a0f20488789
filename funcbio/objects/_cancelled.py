"""The first steps of optimizers after methods were called: one warning if what they changed has no effect there."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import torch
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.hooks import RemovableHandle

from funcbio.functional._idle import cancelled, unapplied, updating, warn
from funcbio.mechanisms import ROWS, Row

FOUND = "methods of the model, which act on the gradient: name them in funcbio.attach(optimizer, model, [...]) instead"
APPLYING = frozenset(row.applied_by for row in ROWS.values()) - {None}
"""Methods without which what others change has no effect."""

PATIENCE = 10
"""Steps after which rates that no method has applied are taken to be forgotten."""


@dataclass
class Waiting:
    """Holds what has been called on a model, or layer, and what is known of its steps.

    Attributes:
        called: The methods whose effect may be lost, by name.
        steps: How many steps of optimizers that hold weights have been seen.
        seen: The weights that they held.
    """

    called: dict[str, Row] = field(default_factory=dict)
    steps: int = 0
    seen: set[int] = field(default_factory=set)

    def scaling(self) -> list[str]:
        """Returns the methods that have scaled gradients."""
        return [name for name, row in self.called.items() if row.scales]

    def forgotten(self, layers: Sequence[Any]) -> list[str]:
        """Returns why methods have changed nothing so far, whichever object they were called on."""
        return [] if any(layer in _applied for layer in layers) else unapplied(self.called)

    def is_settled(self, layers: Sequence[Any]) -> bool:
        """Returns True if no further step can tell anything, or enough have been seen."""
        known = not self.forgotten(layers) and all(id(layer.weight) in self.seen for layer in layers)
        return known or self.steps >= PATIENCE


_waiting: "WeakKeyDictionary[Any, Waiting]" = WeakKeyDictionary()
"""Overviews of models, and layers, that wait for steps."""
_stepped: "WeakSet[Any]" = WeakSet()
"""Layers whose methods were called by themselves, and whose weights an optimizer has stepped since."""
_applied: "WeakSet[Any]" = WeakSet()
"""Layers whose rates were applied, by a method of theirs or of their model."""
_hooks: list[RemovableHandle] = []
"""The one hook on all optimizers, while a model waits."""


def matters(row: Row, layers: Sequence[Any]) -> bool:
    """Returns True if what a method changes may be without effect on steps, from all that layers know."""
    if row.name in APPLYING:
        _applied.update(layers)
    if row.scales or row.applied_by is None:
        return row.scales
    applied = any(layer.attached or layer.features for layer in layers)  # Perhaps by an optimizer, or a user's method.
    return not applied and not any(row.idle is not None and row.idle(layer.config) for layer in layers)


def await_step(overview: Any, name: str, row: Row) -> None:
    """Waits for the first steps of optimizers that hold weights of a model, after a method was called on it."""
    _waiting.setdefault(overview, Waiting()).called[name] = row
    if not _hooks:
        _hooks.append(register_optimizer_step_pre_hook(_look))


def await_step_of(layer: Any, name: str, row: Row) -> None:
    """Waits likewise, once, after a method of one layer was called by itself."""
    stop_waiting()
    if layer not in _stepped and not layer.attached:
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
    scaling: dict[str, None] = {}
    forgotten: dict[str, None] = {}
    for waiting, one in [*_waiting.items()]:
        layers = _layers(waiting)
        if any(id(layer.weight) in held for layer in layers):
            one.steps, one.seen = one.steps + 1, one.seen | held
            forgotten |= dict.fromkeys(one.forgotten(layers) if one.steps == PATIENCE else [])
            cancels = cancelled(one.scaling(), updating(optimizer), FOUND) is not None
            scaling |= dict.fromkeys(one.scaling() if cancels else [])
            if cancels or one.is_settled(layers):
                del _waiting[waiting]
                _see(waiting)
    reason = cancelled([*scaling], updating(optimizer), FOUND)
    warn([*forgotten, *([] if reason is None else [reason])])


def _layers(waiting: Any) -> list[Any]:
    return waiting.treated() if hasattr(waiting, "treated") else [waiting]


def _see(waiting: Any) -> None:
    if hasattr(waiting, "see_step"):
        waiting.see_step()
    else:
        _stepped.add(waiting)
