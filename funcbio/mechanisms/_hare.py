"""Hare and Tortoise: a slow average follows the parameters, which go back to it now and then."""

from typing import Any

import torch
from torch import Tensor

from funcbio._checks import SHARE
from funcbio.base import BioState, Key, Number, Tree
from funcbio.engine._kernel import Kernel
from funcbio.engine._run import run_kernel
from funcbio.mechanisms._counted import counted, due_at


def run_and_return(weight: Tensor, tortoise: Tensor, *, momentum: Number, due: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the weights, which go back to the slow average where that is due, and the average."""
    slow = momentum * tortoise + (1.0 - momentum) * weight
    slow = torch.where(slow.isfinite(), slow, weight)  # A weight that was healed is followed anew.
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
    r"""Follows the parameters by a slow average, and sets them back to it now and then.

    The tortoise $\bar w$ follows the hare $w$ at every call; at every $N$-th call the hare goes back to it:

    $$\bar w \leftarrow \mu \bar w + (1 - \mu) w, \qquad w \leftarrow \bar w \text{ at calls } N, 2N, 3N, \dots$$

    Call it once in every step, after the optimizer. The average is kept in float32 at least. Buffers, as the running
    statistics of a batch norm, are no parameters and stay as they are.

    Args:
        params: Tree of all parameters.
        grads: Tree of gradients, shaped like ``params``; passed on.
        state: A state with ``tortoise`` and ``calls``, as ``init(..., keep=["hare_and_tortoise"])`` makes it.
        key: Not used.
        momentum: $\mu$ in [0, 1]; the average remembers about $1 / (1 - \mu)$ calls.
        every: $N$, an integer of 1 or more: calls from one return to the next.

    Returns:
        The new ``params``, ``grads`` as given, and ``state`` with the new ``tortoise`` and ``calls``.

    Raises:
        ValueError: If the trees differ in structure, ``tortoise`` or ``calls`` are not kept, or a number is out of its
            limits.

    Example:
        >>> params = {"w": torch.tensor([0.0, 1.0])}
        >>> state = init(params, key=key(0), keep=["hare_and_tortoise"])
        >>> moved = {"w": torch.tensor([1.0, 1.0])}
        >>> moved, _, state = hare_and_tortoise(moved, moved, state, momentum=0.5, every=2)
        >>> moved["w"], state.tortoise["w"]
        (tensor([1., 1.]), tensor([0.5000, 1.0000]))
        >>> hare_and_tortoise(moved, moved, state, momentum=0.5, every=2)[0]["w"]
        tensor([0.7500, 1.0000])

    References:
        Lee et al., Slow and Steady Wins the Race: Maintaining Plasticity with Hare and Tortoise Networks, ICML (2024),
        arXiv:2406.02596.
    """
    calls, state = counted(state, "hare_and_tortoise")
    return run_kernel(HARE, params, grads, state, key=key, momentum=momentum, due=due_at(calls, every))
