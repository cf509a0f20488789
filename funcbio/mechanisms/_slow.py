"""Mechanisms that follow weights or gradients slowly, and act at events: Hare and Tortoise, and DASH."""

from typing import Any

import torch
from torch import Tensor

from funcbio._checks import SHARE
from funcbio.base import BioState, Key, Number, Tree
from funcbio.engine._kernel import Kernel
from funcbio.engine._run import run_kernel
from funcbio.mechanisms._counted import counted, due_at

TINY = 1e-12


def run_and_return(weight: Tensor, tortoise: Tensor, *, momentum: Number, due: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the weights, which go back to the slow average where that is due, and the average."""
    slow = momentum * tortoise + (1.0 - momentum) * weight
    return torch.where(due > 0.0, slow, weight), slow


HARE = Kernel(
    run_and_return,
    ("weight", "tortoise"),
    ("weight", "tortoise"),
    marks=("tortoise",),
    limits={"momentum": SHARE},
    by_leaf=True,
)


def hare_and_tortoise(
    params: Tree,
    grads: Tree,
    state: BioState,
    /,
    *,
    key: Key | None = None,
    momentum: Number = 0.999,
    every: Any = 1000,
) -> tuple[Tree, Tree, BioState]:
    r"""Follows the parameters by a slow average, and sets them back to it now and then."""
    calls, state = counted(state, "hare_and_tortoise")
    return run_kernel(HARE, params, grads, state, key=key, momentum=momentum, due=due_at(calls, every))


def shrink_along(
    weight: Tensor, grad: Tensor, direction: Tensor, *, alpha: Number, floor: Tensor, due: Tensor
) -> tuple[Tensor, Tensor]:
    """Returns the weights, whose rows shrink where that is due as they disagree with where gradients lead."""
    direction = (1.0 - alpha) * direction - alpha * grad
    keep = 1 if weight.ndim < 3 else 2
    dims = tuple(range(min(keep, weight.ndim - 1), weight.ndim))
    dot = (direction * weight).sum(dims, keepdim=True)
    lengths = [one.square().sum(dims, keepdim=True).sqrt() for one in (direction, weight)]
    cosine = dot / (lengths[0] * lengths[1]).clamp_min(TINY)
    factor = torch.clamp(torch.maximum(cosine, floor), max=1.0)
    return torch.where(due > 0.0, weight * factor, weight), direction


DASH = Kernel(
    shrink_along,
    ("weight", "grad", "direction"),
    ("weight", "direction"),
    marks=("direction",),
    limits={"alpha": SHARE, "floor": SHARE},
    by_leaf=True,
    elementwise=False,
)


def dash(
    params: Tree,
    grads: Tree,
    state: BioState,
    /,
    *,
    key: Key | None = None,
    alpha: Number = 0.3,
    floor: Number = 0.05,
    every: Any = 1000,
) -> tuple[Tree, Tree, BioState]:
    r"""Shrinks weights whose direction disagrees with that of the gradient."""
    calls, state = counted(state, "dash")
    return run_kernel(DASH, params, grads, state, key=key, alpha=alpha, floor=floor, due=due_at(calls, every))
