"""FIRE: every weight matrix is replaced by a nearly orthogonal one."""

import math

import torch
from torch import Tensor

from funcbio._checks import COUNT_OR_NONE
from funcbio.base import BioState, Key, Tree
from funcbio.engine._kernel import Kernel
from funcbio.engine._run import run_kernel


def orthogonalise(weight: Tensor, *, iterations: int) -> Tensor:
    """Returns a weight whose matrix, at every tap of a convolution, is nearly orthogonal, by Newton-Schulz steps."""
    if not weight.numel():
        return weight
    rows, columns = weight.shape[:2]
    taps = weight.reshape(rows, columns, -1).movedim(-1, 0)
    norm = torch.linalg.matrix_norm(taps, keepdim=True)
    x = taps / torch.where(norm > 0.0, norm, 1.0)
    for _ in range(iterations):
        x = 1.5 * x - 0.5 * (x @ x.mT @ x)
    x = x * (math.sqrt(rows / columns) / taps.shape[0])
    return x.movedim(0, -1).reshape(weight.shape)


FIRE = Kernel(
    orthogonalise,
    ("weight",),
    ("weight",),
    limits={"iterations": COUNT_OR_NONE},
    by_leaf=True,
    elementwise=False,
)


def fire(
    params: Tree, grads: Tree, state: BioState, /, *, key: Key | None = None, iterations: int = 10
) -> tuple[Tree, Tree, BioState]:
    r"""Replaces every weight matrix by a nearly orthogonal one."""
    return run_kernel(FIRE, params, grads, state, key=key, iterations=iterations)
