"""Numbers of directions that a layer uses: stable and effective rank, from its singular values."""

import torch
from torch import Tensor


def stable_rank(singular: Tensor) -> Tensor:
    r"""Counts the directions that are as strong as the strongest.

    $$ \frac{\lVert W \rVert_F^2}{\lVert W \rVert_2^2} = \sum_i \sigma_i^2 / \max_i \sigma_i^2 $$

    Args:
        singular: Singular values of one matrix, shape ``(values,)``.

    Returns:
        0-d tensor between 1 and the rank; 0 of a matrix of zeros.

    Example:
        >>> from funcbio.monitor import stable_rank
        >>> stable_rank(torch.tensor([2.0, 1.0, 0.0]))
        tensor(1.2500)

    References:
        Rudelson and Vershynin, Journal of the ACM 54(4), 2007.
    """
    top = singular.amax()
    # Divided before squaring: squares of large values overflow.
    return (singular / torch.where(top > 0, top, 1.0)).square().sum()


def effective_rank(singular: Tensor) -> Tensor:
    r"""Counts the directions that the entropy of the singular values amounts to.

    With $p_i = \sigma_i / \sum_j \sigma_j$, $$ \exp\bigl(-\sum_i p_i \ln p_i\bigr). $$

    Args:
        singular: Singular values of one matrix, shape ``(values,)``.

    Returns:
        0-d tensor between 1 and the rank; 0 of a matrix of zeros, nan of values that are not finite.

    Example:
        >>> from funcbio.monitor import effective_rank
        >>> effective_rank(torch.tensor([3.0, 3.0, 0.0]))
        tensor(2.)

    References:
        Roy and Vetterli, "The effective rank: a measure of effective dimensionality", EUSIPCO 2007.
    """
    total = singular.sum()
    none = total == 0
    shares = singular / torch.where(none, 1.0, total)
    return torch.where(none, 0.0, torch.special.entr(shares).sum().exp())


def singular_values(weight: Tensor, post: int) -> Tensor:
    """Computes the singular values of a weight as a matrix of post-synaptic rows; nan if a weight is not finite."""
    matrix = weight.movedim(post, 0).flatten(1)
    matrix = matrix.to(torch.promote_types(matrix.dtype, torch.float32))
    finite = matrix.isfinite().all()  # The decomposition raises on others, and a diverged run should be seen.
    return torch.where(finite, torch.linalg.svdvals(torch.where(finite, matrix, 0.0)), torch.nan)
