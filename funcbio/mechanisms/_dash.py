"""DASH, direction-aware shrinking: weights shrink that do not point where the gradient leads."""

from typing import Any

import torch
from torch import Tensor

from funcbio._checks import SHARE
from funcbio.base import BioState, Key, Number, Tree
from funcbio.engine._kernel import Kernel
from funcbio.engine._run import run_kernel
from funcbio.mechanisms._counted import counted, due_at
from funcbio.tensors._arithmetic import unit


def shrink_along(
    weight: Tensor, grad: Tensor, direction: Tensor, *, alpha: Number, floor: Tensor, due: Tensor
) -> tuple[Tensor, Tensor]:
    """Returns the weights, whose rows shrink where that is due as they disagree with where gradients lead."""
    direction = (1.0 - alpha) * direction - alpha * grad
    direction = torch.where(direction.isfinite(), direction, 0.0)  # A gradient that overflowed leads nowhere.
    start = {1: 0, 2: 1}.get(weight.ndim, 2)  # A bias as a whole, the rows of a matrix, the kernels of a convolution.
    dims = tuple(range(start, weight.ndim))
    cosine = (unit(direction, dims) * unit(weight, dims)).sum(dims, keepdim=True)
    cosine = torch.where(cosine.isfinite(), cosine, 1.0)  # One weight that is broken breaks no others.
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
    r"""Shrinks weights that do not point where the gradient leads.

    A running average $d$ follows the negative gradient at every call; at every $N$-th call each group of weights
    shrinks by the cosine of its angle with $d$, but not below $\lambda$ of its length:

    $$d \leftarrow (1 - \alpha) d - \alpha g, \qquad
    w \leftarrow w \cdot \max\left(\lambda, \frac{\langle d, w \rangle}{\lVert d \rVert \lVert w \rVert}\right)
    \text{ at calls } N, 2N, 3N, \dots$$

    A group is a row of a matrix, one kernel of a convolution (one output and one input channel, all taps), or a bias
    as a whole. A group in which $d$ is zero shrinks to $\lambda$ of its length.

    Args:
        params: Tree of weights, biases too.
        grads: Tree of gradients $g$ of the loss, shaped like ``params``; passed on.
        state: A state with ``direction`` and ``calls``, as ``init(..., keep=["dash"])`` makes it.
        key: Not used.
        alpha: $\alpha$ in [0, 1], share of the newest gradient in the average.
        floor: $\lambda$ in [0, 1], the smallest factor; 1 shrinks nothing.
        every: $N$, an integer of 1 or more: calls from one shrinking to the next.

    Returns:
        The new ``params``, ``grads`` as given, and ``state`` with the new ``direction`` and ``calls``.

    Raises:
        ValueError: If the trees differ in structure, ``direction`` or ``calls`` are not kept, or a number is out of its
            limits.

    Example:
        >>> params = {"w": torch.tensor([[3.0, 4.0], [1.0, 0.0]])}
        >>> grads = {"w": torch.tensor([[-3.0, 0.0], [2.0, 0.0]])}
        >>> state = init(params, key=key(0), keep=["dash"])
        >>> dash(params, grads, state, floor=0.1, every=1)[0]["w"]
        tensor([[1.8000, 2.4000],
                [0.1000, 0.0000]])

    References:
        Shin et al., DASH: Warm-Starting Neural Network Training in Stationary Settings without Loss of Plasticity,
        NeurIPS (2024), arXiv:2410.23495.
    """
    calls, state = counted(state, "dash")
    return run_kernel(DASH, params, grads, state, key=key, alpha=alpha, floor=floor, due=due_at(calls, every))
