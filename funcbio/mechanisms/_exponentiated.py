"""Exponentiated gradient: updates multiply, so that no weight changes its sign."""

import torch
from torch import Tensor

from funcbio.base import BioState, Key, Tree
from funcbio.engine._kernel import Kernel
from funcbio.engine._run import run_kernel


def multiply_update(weight: Tensor, grad: Tensor) -> Tensor:
    """Returns the update of one layer that multiplies |w| by exp(sign(w) u)."""
    return weight * torch.expm1(torch.sign(weight) * grad)


EXPONENTIATED = Kernel(multiply_update, ("weight", "grad"), ("grad",), marks=(), by_leaf=True)


def exponentiated_gradient(
    params: Tree, grads: Tree, state: BioState, /, *, key: Key | None = None
) -> tuple[Tree, Tree, BioState]:
    r"""Turns updates into factors, so that weights keep their signs."""
    return run_kernel(EXPONENTIATED, params, grads, state, key=key)
