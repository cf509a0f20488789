"""Exponentiated gradient: updates multiply, so that no weight changes its sign."""

import torch
from torch import Tensor

from funcbio.base import BioState, Key, Tree
from funcbio.engine._kernel import Kernel
from funcbio.engine._run import run_kernel


def coarsest(weight: Tensor, grad: Tensor) -> tuple[Tensor]:
    """Returns the distance from 1 to the next number, in the coarser of the two types."""
    eps = max(torch.finfo(weight.dtype).eps, torch.finfo(grad.dtype).eps)
    return (torch.full((), eps, dtype=torch.float32, device=weight.device),)


def multiply_update(weight: Tensor, grad: Tensor, *, statistics: tuple[Tensor, ...]) -> Tensor:
    """Returns the update of one layer that multiplies |w| by exp(sign(w) u)."""
    (least,) = statistics  # The smallest factor: less would round to zero, for ever.
    return weight * torch.maximum(torch.expm1(torch.sign(weight) * grad), least - 1.0)


EXPONENTIATED = Kernel(
    multiply_update,
    ("weight", "grad"),
    ("grad",),
    statistics=coarsest,
    of=("weight", "grad"),
    by_leaf=True,
)


def exponentiated_gradient(
    params: Tree, grads: Tree, state: BioState, /, *, key: Key | None = None
) -> tuple[Tree, Tree, BioState]:
    r"""Turns updates into factors, so that weights keep their signs.

    Where an optimizer is about to add $u$, the weight is multiplied instead:
    $$ u \leftarrow w \, (e^{\mathrm{sign}(w) u} - 1), \quad \text{so that } w + u \text{ becomes }
    w \, e^{\mathrm{sign}(w) u}. $$
    A step is about $|w|$ times the optimizer's: large weights move more, and a weight of zero never moves. The factor
    on the weight is at least the precision of its type, so that no finite update takes it to zero by rounding.
    Parameters that are no synapses keep their updates: a bias that cannot change its sign is rarely wanted, and
    offsets of norms begin at zero.

    Args:
        params: Tree of weights, before the update.
        grads: Tree of updates, what is about to be added to the weights, shaped like ``params``; with plain gradients
            $g$ and a learning rate $\eta$ these are $-\eta g$.
        state: Any state with a ``rate`` tree shaped like ``params``; where its leaf has no dimensions, nothing changes.
        key: Not used.

    Returns:
        ``params`` as given, the new ``grads``, and ``state`` as given.

    Raises:
        ValueError: If the trees differ in structure.

    Example:
        >>> params = {"w": torch.tensor([[2.0, -2.0, 0.0]])}
        >>> update = {"w": torch.full((1, 3), 0.6931472)}
        >>> state = BioState(rate={"w": torch.ones(1, 3)})
        >>> params["w"] + exponentiated_gradient(params, update, state)[1]["w"]
        tensor([[ 4., -1.,  0.]])

    References:
        Cornford et al., Brain-like learning with exponentiated gradients, bioRxiv (2024),
        doi 10.1101/2024.10.25.620272;
        Kivinen and Warmuth, Exponentiated Gradient versus Gradient Descent for Linear Predictors, Information and
        Computation 132 (1997).
    """
    return run_kernel(EXPONENTIATED, params, grads, state, key=key)
