"""Penalties on singular values: spectral regularization and Parseval regularization."""

import torch
from torch import Tensor

from funcbio._checks import COUNT, NOT_NEGATIVE, POSITIVE
from funcbio.base import BioState, Key, Number, Tree
from funcbio.engine._kernel import Kernel
from funcbio.engine._run import run_kernel
from funcbio.tensors._arithmetic import unit


def _is_matrix(weight: Tensor) -> bool:
    return weight.ndim > 1 and weight.numel() > 0


def spectral_pull(
    weight: Tensor, grad: Tensor, singular: Tensor, *, strength: Number, power: int
) -> tuple[Tensor, Tensor]:
    """Returns the gradient with that of ``strength * (sigma^power - 1)^2``, and the vector, one power iteration on."""
    if not _is_matrix(weight):
        return grad, singular
    matrix, before = weight.flatten(1), singular.flatten()
    right = unit(matrix.T @ before)
    image = matrix @ right
    sigma = torch.linalg.vector_norm(image)
    left = torch.where(sigma > 0.0, unit(image), before)  # A vector of zeros would never find its way back.
    slope = 2.0 * power * (sigma**power - 1.0) * sigma ** (power - 1)
    pull = strength * slope * torch.outer(left, right)
    return grad + pull.reshape(weight.shape), left.reshape(singular.shape)


def parseval_pull(weight: Tensor, grad: Tensor, *, strength: Number, scale: Number) -> Tensor:
    """Returns the gradient with that of ``strength * ||W W^T - scale I||^2``."""
    if not _is_matrix(weight):
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
    r"""Pulls the largest singular value of every weight matrix to one.

    Adds to the gradient that of the penalty

    $$\lambda \left(\sigma^k - 1\right)^2, \qquad
    \nabla = 2 \lambda k \left(\sigma^k - 1\right) \sigma^{k-1}\, u v^\top,$$

    where $\sigma = \lVert W v \rVert$ stands for the largest singular value of $W$, and $u$, $v$ for its singular
    vectors: one power iteration a call, $v = W^\top u / \lVert W^\top u \rVert$ and then $u = W v / \sigma$. The vector
    $u$ is kept from call to call, so that it follows the weights. A convolution counts as the matrix of its first
    axis and all others together. A matrix of zeros is not pulled.

    Args:
        params: Tree of weights.
        grads: Tree of gradients, shaped like ``params``.
        state: A state with ``singular``, as ``init(..., keep=["spectral_regularization"])`` makes it.
        key: Not used.
        strength: $\lambda \ge 0$, in units of the loss.
        power: $k$, an integer of 1 or more: the larger, the harder large singular values are pulled.

    Returns:
        ``params`` as given, the new ``grads``, and ``state`` with the new ``singular``.

    Raises:
        ValueError: If the trees differ in structure, ``singular`` is not kept, or a number is out of its limits.

    Example:
        >>> params = {"w": torch.tensor([[4.0, 0.0], [0.0, 3.0]])}
        >>> grads = {"w": torch.zeros(2, 2)}
        >>> state = BioState(rate=(), singular={"w": torch.tensor([[0.6], [0.8]])})
        >>> _, grads, state = spectral_regularization(params, grads, state, strength=0.1)
        >>> grads["w"], state.singular["w"].flatten()
        (tensor([[9.2000, 9.2000],
                [6.9000, 6.9000]]), tensor([0.8000, 0.6000]))

    References:
        Lewandowski et al., Learning Continually by Spectral Regularization, ICLR (2025), arXiv:2406.06811.
    """
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
    r"""Pulls the rows of every weight matrix to be orthogonal, and of one length.

    Adds to the gradient that of the penalty

    $$\lambda \lVert W W^\top - s I \rVert_F^2, \qquad
    \nabla = 4 \lambda \left(W W^\top - s I\right) W.$$

    A convolution counts as the matrix of its first axis and all others together. More rows than columns cannot
    all be orthogonal: then the penalty cannot vanish, and all singular values are pulled to $\sqrt{s}$.

    Args:
        params: Tree of weights.
        grads: Tree of gradients, shaped like ``params``.
        state: Any state with a ``rate`` tree shaped like ``params``; returned as it is.
        key: Not used.
        strength: $\lambda \ge 0$, in units of the loss.
        scale: $s > 0$, the squared length of a row.

    Returns:
        ``params`` as given, the new ``grads``, and ``state`` as given.

    Raises:
        ValueError: If the trees differ in structure or a number is out of its limits.

    Example:
        >>> params = {"w": torch.tensor([[1.0, 2.0], [0.0, 1.0]])}
        >>> grads = {"w": torch.zeros(2, 2)}
        >>> parseval(params, grads, BioState(rate=params), strength=0.1)[1]["w"]
        tensor([[1.6000, 4.0000],
                [0.8000, 1.6000]])

    References:
        Chung et al., Parseval Regularization for Continual Reinforcement Learning, NeurIPS (2024), arXiv:2412.07224.
    """
    return run_kernel(PARSEVAL, params, grads, state, key=key, strength=strength, scale=scale)
