"""Normalize and project: every weight matrix keeps the norm that it began with."""

import torch
from torch import Tensor

from funcbio.base import BioState, Key, Tree
from funcbio.engine._kernel import Kernel
from funcbio.engine._run import run_kernel


def keep_norm(weight: Tensor, norm: Tensor) -> Tensor:
    """Returns the weights of one layer, scaled to its initial norm; zeros stay zero."""
    now = torch.linalg.vector_norm(weight)
    return torch.where(now > 0.0, weight * (norm / torch.where(now > 0.0, now, 1.0)), weight)


PROJECT = Kernel(keep_norm, ("weight", "norm"), ("weight",), marks=("norm",), by_leaf=True, elementwise=False)


def project_norms(
    params: Tree, grads: Tree, state: BioState, /, *, key: Key | None = None
) -> tuple[Tree, Tree, BioState]:
    r"""Scales every weight matrix back to its initial norm."""
    return run_kernel(PROJECT, params, grads, state, key=key)
