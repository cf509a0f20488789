"""The first step of an optimizer after methods have scaled its gradients: one warning if it cancels their factors."""

from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.hooks import RemovableHandle

from funcbio.functional._idle import cancelled, warn

FOUND = "methods of the model, which act on the gradient: name them in funcbio.attach(optimizer, model, [...]) instead"
_waiting: "WeakKeyDictionary[Any, dict[str, None]]" = WeakKeyDictionary()
"""Overviews of models that wait for a step, each with the methods that have scaled gradients."""
_hooks: list[RemovableHandle] = []
"""The one hook on all optimizers, while a model waits."""


def await_step(overview: Any, name: str) -> None:
    """Waits for the first step of an optimizer that holds weights of a model, after a method was called on it."""
    _waiting.setdefault(overview, {})[name] = None
    if not _hooks:
        _hooks.append(register_optimizer_step_pre_hook(_look))


def stop_waiting() -> None:
    """Takes the hook away if no model waits: it cannot do that itself, while torch goes through the hooks."""
    if _hooks and not _waiting:
        _hooks.pop().remove()


def _look(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    del args, kwargs
    if torch.compiler.is_compiling() or not _waiting:
        return
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    for overview, names in [*_waiting.items()]:
        if any(id(weight) in held for weight in overview.weights()):
            del _waiting[overview]
            overview.see_step()
            _warn(optimizer, [*names])


def _warn(optimizer: Optimizer, names: list[str]) -> None:
    reason = cancelled(names, type(optimizer), FOUND)
    warn([] if reason is None else [reason])
