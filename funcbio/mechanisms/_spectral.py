"""Penalties on singular values: spectral regularization and Parseval regularization."""

import torch
from torch import Tensor

from funcbio._checks import COUNT, NOT_NEGATIVE, POSITIVE
from funcbio.base import BioState, Key, Number, Tree
from funcbio.engine._kernel import Kernel
from funcbio.engine._run import run_kernel

TINY = 1e-12


def unit(vector: Tensor) -> Tensor:
    """Returns a vector of length one; zeros stay zeros."""
    return vector / torch.linalg.vector_norm(vector).clamp_min(TINY)


def spectral_pull(
    weight: Tensor, grad: Tensor, singular: Tensor, *, strength: Number, power: int
) -> tuple[Tensor, Tensor]:
    """Returns the gradient with that of ``strength * (sigma^power - 1)^2``, and the vector, one power iteration on."""
    if not weight.numel():
        return grad, singular
    matrix, left = weight.flatten(1), singular.flatten()
    right = unit(matrix.T @ left)
    image = matrix @ right
    left, sigma = unit(image), torch.linalg.vector_norm(image)
    slope = 2.0 * power * (sigma**power - 1.0) * sigma ** (power - 1)
    pull = strength * slope * torch.outer(left, right)
    return grad + pull.reshape(weight.shape), left.reshape(singular.shape)


def parseval_pull(weight: Tensor, grad: Tensor, *, strength: Number, scale: Number) -> Tensor:
    """Returns the gradient with that of ``strength * ||W W^T - scale I||^2``."""
    if not weight.numel():
        return grad
    matrix = weight.flatten(1)
    gram = matrix @ matrix.T
    off = gram - scale * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    return grad + (4.0 * strength * (off @ matrix)).reshape(weight.shape)


SPECTRAL = Kernel(
    spectral_pull,
    ("weight", "grad", "singular"),
    ("grad", "singular"),
    marks=("singular",),
    limits={"strength": NOT_NEGATIVE, "power": COUNT},
    by_leaf=True,
    elementwise=False,
)
PARSEVAL = Kernel(
    parseval_pull,
    ("weight", "grad"),
    ("grad",),
    limits={"strength": NOT_NEGATIVE, "scale": POSITIVE},
    by_leaf=True,
    elementwise=False,
)


def spectral_regularization(
    params: Tree,
    grads: Tree,
    state: BioState,
    /,
    *,
    key: Key | None = None,
    strength: Number = 1e-4,
    power: int = 2,
) -> tuple[Tree, Tree, BioState]:
    r"""Pulls the largest singular value of every weight matrix to one."""
    return run_kernel(SPECTRAL, params, grads, state, key=key, strength=strength, power=power)


def parseval(
    params: Tree,
    grads: Tree,
    state: BioState,
    /,
    *,
    key: Key | None = None,
    strength: Number = 1e-3,
    scale: Number = 1.0,
) -> tuple[Tree, Tree, BioState]:
    r"""Pulls the rows of every weight matrix to be orthogonal."""
    return run_kernel(PARSEVAL, params, grads, state, key=key, strength=strength, scale=scale)
