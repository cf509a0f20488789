"""Normalize and project: every weight matrix keeps the norm that it began with."""

import torch
from torch import Tensor

from funcbio.base import BioState, Key, Tree
from funcbio.engine._kernel import Kernel
from funcbio.engine._masks import finite_or
from funcbio.engine._run import run_kernel
from funcbio.engine._statistics import largest, totals
from funcbio.tensors._arithmetic import widened


def size(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Returns max|w|, and the norm of w / max|w|, whose squares neither overflow nor vanish; of finite weights only."""
    top = largest(weight, lambda part: finite_or(widened(part), 0.0).abs())
    unit = torch.where(top > 0.0, top, 1.0)
    (squares,) = totals(weight, lambda part, unit: ((finite_or(widened(part), 0.0) / unit).square(),), unit)
    return top, torch.sqrt(squares)


def norm_of(weight: Tensor) -> Tensor:
    """Returns the Euclidean norm of a tensor of any magnitude."""
    top, length = size(weight)
    return top * length


def keep_norm(weight: Tensor, norm: Tensor, *, statistics: tuple[Tensor, ...] | None = None) -> Tensor:
    """Returns the weights of one layer, scaled to its initial norm; zeros stay zero."""
    top, length = size(weight) if statistics is None else statistics
    unit = torch.where(top > 0.0, top, 1.0)
    return torch.where(top > 0.0, weight / unit * (norm / torch.where(top > 0.0, length, 1.0)), weight)


PROJECT = Kernel(keep_norm, ("weight", "norm"), ("weight",), statistics=size, marks=("norm",), by_leaf=True)


def project_norms(
    params: Tree, grads: Tree, state: BioState, /, *, key: Key | None = None
) -> tuple[Tree, Tree, BioState]:
    r"""Scales every weight matrix back to the norm that it began with.

    For each parameter of two or more dimensions, with the Frobenius norm, $$ W \leftarrow W \, \|W_0\| / \|W\|. $$
    This is the projection of Normalize-and-Project; its other half, a layer norm before every nonlinearity, belongs to
    the model. There a layer's output does not depend on the norm of its weights, so that all that a growing norm
    does is to make every step relatively smaller.

    Args:
        params: Tree of parameters.
        grads: Tree of gradients, shaped like ``params``; passed on.
        state: Any state with a ``norm`` tree, as ``init(..., keep=["project_norms"])`` makes it; where its leaf has no
            dimensions, as for biases and norms, nothing changes.
        key: Not used.

    Returns:
        The new ``params``, and ``grads`` and ``state`` as given. Weights that are all zero stay so.

    Raises:
        ValueError: If the trees differ in structure, or the state keeps no norm.

    Example:
        >>> state = init({"w": torch.tensor([[3.0, 4.0]])}, key=key(0), keep=["project_norms"])
        >>> params = {"w": torch.tensor([[0.0, 7.0]])}
        >>> project_norms(params, params, state)[0]["w"]
        tensor([[0., 5.]])

    References:
        Lyle, Zheng, Khetarpal, Martens, van Hasselt, Pascanu and Dabney, Normalization and effective learning rates in
        reinforcement learning, Neural Information Processing Systems (2024), arXiv 2407.01800.
    """
    return run_kernel(PROJECT, params, grads, state, key=key)
