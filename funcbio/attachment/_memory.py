"""The optimizer's memory of single weights, and its reset where a weight was replaced."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from funcbio._checks import is_torchs
from funcbio.attachment._newborn import start_of
from funcbio.attachment._optimizers import groups_by_weight
from funcbio.tensors._sharding import whole

Newborn = Callable[[Mapping[str, Any], Tensor], float | Tensor]
NEWBORN: dict[tuple[str, str], Newborn] = {
    ("Adagrad", "sum"): lambda group, _: float(group["initial_accumulator_value"]),
    ("Rprop", "step_size"): lambda group, _: float(group["lr"]),
    # The running average of a weight that has just been born is the weight.
    ("ASGD", "ax"): lambda _, weight: weight,
}
"""States of torch's optimizers that do not start at 0, by optimizer and name."""
DISTANCE = 0.5
"""A state nearer to the weights than this, relatively, is a copy or an average of them."""


def is_known(optimizer: Optimizer) -> bool:
    """Returns True if the states of an optimizer are those that torch documents."""
    return all(is_torchs(type(one)) for one in parts(optimizer))


def parts(optimizer: Optimizer) -> Iterator[Optimizer]:
    """Yields an optimizer, and those that it wraps."""
    waiting, seen = [optimizer], set()
    while waiting:
        one = waiting.pop()
        if isinstance(one, Optimizer) and id(one) not in seen:
            seen.add(id(one))
            yield one
            for value in vars(one).values():
                waiting += value if isinstance(value, list | tuple) else [value]


@torch.no_grad()
def reset(optimizer: Optimizer, replaced: Sequence[tuple[Tensor, Tensor]], newborn: str = "zero") -> None:
    """Resets an optimizer's memory of some elements of weights to that of new elements.

    Only tensors of the weight's shape, or flat ones of its size, can be set for single elements; step counters stay,
    and so do the factored statistics of Adafactor.

    Args:
        optimizer: The optimizer.
        replaced: Weights, in which the new values stand, each with its replaced elements, bool, of its shape.
        newborn: "mean" starts what a step is divided by at the mean over the layer's other elements.
    """
    for one in parts(optimizer):
        groups = groups_by_weight(one)
        for weight, where in replaced:
            group = groups.get(id(weight), {})
            for name, value in _alike(one.state.get(weight, {}), weight):
                start = start_of(name, value, where, newborn)
                start = _start(one, group, name, value, weight.detach(), where) if start is None else start
                if isinstance(start, Tensor):
                    value.copy_(torch.where(where, start.to(value.dtype), value))
                else:
                    value.masked_fill_(where, start)


def _alike(state: Any, weight: Tensor, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yields tensors of a state with one element for each of the weight's, in its shape; also nested ones."""
    if isinstance(state, Tensor):
        flat = state.ndim == 1 and state.numel() == weight.numel() and state.is_contiguous()
        if flat or (state.ndim and state.shape == weight.shape):
            yield name, state.view(weight.shape) if flat else state
    elif isinstance(state, Mapping):
        for inner, value in state.items():
            yield from _alike(value, weight, str(inner))
    elif isinstance(state, list | tuple):
        for value in state:
            yield from _alike(value, weight, name)


def _start(
    optimizer: Optimizer, group: Mapping[str, Any], name: str, value: Tensor, weight: Tensor, where: Tensor
) -> float | Tensor:
    """Returns the state of new elements."""
    if not is_torchs(type(optimizer)) and value.is_floating_point() and _is_copy(value, weight, where):
        return weight
    kinds = [kind.__name__ for kind in type(optimizer).__mro__]
    newborn = next((NEWBORN[kind, name] for kind in kinds if (kind, name) in NEWBORN), None)
    return 0.0 if newborn is None else newborn(group, weight)


def _is_copy(value: Tensor, weight: Tensor, where: Tensor) -> bool:
    """Returns True if a state copies the weight itself, judged by the elements that were not replaced."""
    wide = torch.promote_types(torch.promote_types(value.dtype, weight.dtype), torch.float32)
    kept = torch.where(where, 0.0, weight.to(wide).nan_to_num())
    distance = torch.where(where, 0.0, (value.to(wide) - weight.to(wide)).nan_to_num())
    squares = (whole(part.square().sum()) for part in (distance, kept))
    return bool(next(squares) < DISTANCE**2 * next(squares))
