"""What has to be known of an optimizer before mechanisms act around its steps."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, optim
from torch.optim import Optimizer


def check_optimizer(optimizer: object) -> None:
    """Raises if mechanisms cannot act around the steps of an optimizer."""
    if not isinstance(optimizer, Optimizer):
        raise TypeError(
            f"optimizer should be a torch.optim.Optimizer, or None with hooks=False; found {type(optimizer).__name__}"
        )
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


def groups_by_weight(optimizer: Optimizer | None) -> dict[int, dict[str, Any]]:
    """The parameter group of every parameter, by its ``id``."""
    groups = [] if optimizer is None else optimizer.param_groups
    return {id(parameter): group for group in groups for parameter in group["params"]}


def plain_step(optimizer: Optimizer) -> Callable[[Optimizer], Any] | None:
    """The step of an optimizer of ``torch.optim`` without its hooks; None if others have had a hand in it.

    Those optimizers treat every parameter by itself, so their step may be made in parts. Where the class has a step of
    its own, nothing is known of it.
    """
    step = type(optimizer).step
    inner = getattr(step, "__wrapped__", None)
    known = getattr(step, "hooked", False) and str(step.__module__).startswith("torch.optim.")
    return inner if known else None


Newborn = Callable[[Mapping[str, Any], Tensor], float | Tensor]
NEWBORN: dict[tuple[str, str], Newborn] = {
    ("Adagrad", "sum"): lambda group, _: float(group["initial_accumulator_value"]),
    ("Rprop", "step_size"): lambda group, _: float(group["lr"]),
    # The running average of a weight that has just been born is the weight.
    ("ASGD", "ax"): lambda _, weight: weight.detach(),
}
"""States that do not start at 0, by optimizer and name."""


@torch.no_grad()
def reset(optimizer: Optimizer, group: Mapping[str, Any], weight: Tensor, where: Tensor) -> None:
    """Sets an optimizer's memory of some elements of a weight to what it holds of a new one.

    Only tensors of the weight's shape can be set for single elements; step counters stay, and so do the factored
    statistics of Adafactor.

    Args:
        optimizer: The optimizer.
        group: The parameter group of the weight.
        weight: The weight.
        where: Its replaced elements, bool, of its shape.
    """
    kinds = [kind.__name__ for kind in type(optimizer).__mro__]
    for name, value in optimizer.state.get(weight, {}).items():
        if not isinstance(value, Tensor) or value.shape != weight.shape or value.ndim == 0:
            continue
        made = next((NEWBORN[kind, name] for kind in kinds if (kind, name) in NEWBORN), None)
        start = 0.0 if made is None else made(group, weight)
        if isinstance(start, Tensor):
            value.copy_(torch.where(where, start.to(value.dtype), value))
        else:
            value.masked_fill_(where, start)
