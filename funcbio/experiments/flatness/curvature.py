"""Curvature of a loss from products of its Hessian with vectors, without the Hessian itself."""

from collections.abc import Callable
from typing import Any

import torch
from optree.integrations.torch import tree_ravel
from torch import Tensor
from torch.func import grad, jvp

import funcbio
from funcbio import Key, Tree

Product = Callable[[Tensor], Tensor]


def hessian_product(loss: Callable[[Tree], Tensor], params: Tree) -> tuple[Product, int]:
    """Returns the function from a vector v to H v, forward over reverse, and the length of v.

    Args:
        loss: From parameters to a tensor of no dimensions.
        params: Where the Hessian H is taken.

    Example:
        >>> loss = lambda p: p["w"][0] ** 2 + 3.0 * p["w"][1] ** 2
        >>> product, size = hessian_product(loss, {"w": torch.ones(2)})
        >>> product(torch.tensor([1.0, 1.0])), size
        (tensor([2., 6.]), 2)
    """
    flat, unravel = tree_ravel(params)
    slope: Any = grad(lambda vector: loss(unravel(vector)))
    return lambda vector: jvp(slope, (flat,), (vector,))[1], flat.numel()


def extremes(product: Product, size: int, key: Key, *, iterations: int) -> tuple[Tensor, Tensor]:
    r"""Estimates the smallest and the largest eigenvalue by Lanczos iterations from a random start.

    Every new direction is made orthogonal to all earlier ones, twice, because of rounding. Ritz values
    lie within the spectrum: the true largest eigenvalue is never under the estimate, but for rounding.

    Args:
        product: From v to H v, H symmetric.
        size: Length of v.
        key: Draws the start.
        iterations: How many products.

    Returns:
        Two tensors of no dimensions.

    Example:
        >>> low, high = extremes(lambda v: torch.tensor([-1.0, 2.0, 5.0]) * v, 3, funcbio.key(0), iterations=3)
        >>> round(float(low), 3), round(float(high), 3)
        (-1.0, 5.0)

    References:
        Golub and Van Loan, Matrix Computations, chapter 10.
    """
    start = funcbio.normal(key, (size,), stream="lanczos")
    basis, diagonal, lengths = [start / start.norm()], [], []
    for _ in range(min(iterations, size)):
        new, directions = product(basis[-1]), torch.stack(basis)
        diagonal.append(basis[-1] @ new)
        reach = new.norm()
        for _ in range(2):
            new = new - directions.T @ (directions @ new)
        length = new.norm()
        # If nothing remains, the directions already span all that the start can reach.
        remains = length > 1e-5 * reach
        lengths.append(torch.where(remains, length, 0.0))
        basis.append(torch.where(remains, new / torch.where(remains, length, 1.0), 0.0))
    off = torch.stack(lengths[:-1]) if len(lengths) > 1 else start.new_zeros(0)
    matrix = torch.diag(torch.stack(diagonal)) + torch.diag(off, 1) + torch.diag(off, -1)
    values = torch.linalg.eigvalsh(matrix)
    return values[0], values[-1]


def trace(product: Product, size: int, key: Key, *, probes: int) -> Tensor:
    r"""Estimates the trace as the mean of $v^\top H v$ over vectors of random signs.

    The estimate is unbiased, with variance $2 \sum_{i \neq j} H_{ij}^2$ over the number of probes.

    Args:
        product: From v to H v, H symmetric.
        size: Length of v.
        key: Draws the signs.
        probes: How many vectors.

    Returns:
        Tensor of no dimensions.

    Example:
        >>> trace(lambda v: torch.tensor([1.0, 2.0]) * v, 2, funcbio.key(0), probes=3)
        tensor(3.)

    References:
        Hutchinson, Communications in Statistics 19(2), 1990.
    """
    estimates = []
    for probe in range(probes):
        heads = funcbio.bernoulli(funcbio.fold_in(key, probe), 0.5, (size,), stream="hutchinson")
        signs = torch.where(heads, 1.0, -1.0)
        estimates.append(signs @ product(signs))
    return torch.stack(estimates).mean()
