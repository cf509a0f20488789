"""Checks of an optimizer before mechanisms act around its steps."""

from typing import Any

import torch
from torch import Tensor, nn, optim
from torch.optim import Optimizer

from funcbio._checks import kind_of
from funcbio.tensors._sharding import holds_everywhere, local


def check_optimizer(optimizer: object) -> None:
    """Raises if mechanisms cannot act around the steps of an optimizer."""
    if not isinstance(optimizer, Optimizer):
        should = "a torch.optim.Optimizer, or None with hooks=False"
        raise TypeError(f"optimizer should be {should}; found {kind_of(optimizer)}{_hint(optimizer)}")
    name = type(optimizer).__name__
    if not hasattr(optimizer, "_optimizer_step_pre_hooks"):
        raise ValueError(f"optimizer should be torch's own; found {name}, a wrapper: attach to what it wraps")
    if isinstance(optimizer, optim.LBFGS):
        raise ValueError(
            "optimizer should make one update of one gradient; found LBFGS, which evaluates the loss several times in "
            "a step: call the mechanisms as methods of a converted model"
        )
    if isinstance(optimizer, optim.SparseAdam):
        raise ValueError("optimizer should take dense gradients; found SparseAdam: use Adam, and sparse=False")
    if any(group.get("differentiable") for group in optimizer.param_groups):
        raise ValueError("optimizer should not be differentiable; found differentiable=True: chain the pure features")


def _hint(given: object) -> str:
    """Returns, for a message, what was meant by something in the place of an optimizer; "" if that is not known."""
    if isinstance(given, nn.Module):
        return ": attach(optimizer, model, mechanisms) takes it before the model"
    if isinstance(given, type) and issubclass(given, Optimizer):
        return f": make one, {given.__name__}(model.parameters(), lr=...)"
    inner = getattr(given, "optimizer", None)
    return ": give its .optimizer" if isinstance(inner, Optimizer) else ""


def groups_by_weight(optimizer: Optimizer | None) -> dict[int, dict[str, Any]]:
    """Returns the parameter group of every parameter, by its ``id``."""
    groups = [] if optimizer is None else optimizer.param_groups
    return {id(parameter): group for group in groups for parameter in group["params"]}


def moves_nothing(optimizer: Optimizer) -> bool:
    """Returns True for a step that is only made to read or write an optimizer's state.

    Torch makes one, with learning rate 0 and gradients of zeros, where the state is not there yet. Devices are asked
    only where learning rates are 0 already.
    """
    rates = [group.get("lr", 0.0) for group in optimizer.param_groups]
    if not all(_is_zero(rate) for rate in rates):
        return False
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    grads = [parameter.grad for parameter in parameters if parameter.grad is not None]
    return holds_everywhere(not any(_holds_anything(local(grad)) for grad in grads), grads)


def _is_zero(rate: Any) -> bool:
    if isinstance(rate, Tensor):
        return rate.device.type == "cpu" and not rate.any()
    return isinstance(rate, int | float) and rate == 0.0


def _holds_anything(grad: Tensor) -> bool:
    values = grad.coalesce().values() if grad.layout == torch.sparse_coo else grad
    return bool((values != 0).any())
