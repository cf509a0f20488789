"""Weight clipping: no weight grows beyond a bound of the layer's initial size."""

import torch
from torch import Tensor

from funcbio._checks import POSITIVE
from funcbio.base import BioState, Key, Number, Tree
from funcbio.engine._kernel import Kernel
from funcbio.engine._run import run_kernel


def clip_to_bound(weight: Tensor, bound: Tensor, *, kappa: Number) -> Tensor:
    """Returns the weights of one layer, clipped to +-``kappa * bound``."""
    most = kappa * bound
    return torch.maximum(torch.minimum(weight, most), -most)


CLIP = Kernel(
    clip_to_bound, ("weight", "bound"), ("weight",), marks=("bound",), limits={"kappa": POSITIVE}, by_leaf=True
)


def clip_weights(
    params: Tree, grads: Tree, state: BioState, /, *, key: Key | None = None, kappa: Number = 2.0
) -> tuple[Tree, Tree, BioState]:
    r"""Clips every parameter to a multiple of its initial size."""
    return run_kernel(CLIP, params, grads, state, key=key, kappa=kappa)
