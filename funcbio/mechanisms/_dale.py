"""Dale's principle: all weights that leave a unit through one weight matrix share one sign."""

import torch
from torch import Tensor

from funcbio.base import BioState, Key, Tree
from funcbio.engine._kernel import Kernel
from funcbio.engine._run import run_kernel


def give_sign(weight: Tensor, sign: Tensor) -> Tensor:
    """Returns |w| with the sign of its pre-synaptic unit; ``sign`` broadcasts along the other axes."""
    return weight.abs() * sign


def keep_sign(weight: Tensor, sign: Tensor) -> Tensor:
    """Returns the weights of one layer, with 0 where one has the wrong sign."""
    return torch.where(sign * weight < 0.0, 0.0, weight)


GIVE_SIGN = Kernel(give_sign, reads=("weight", "sign"), writes=("weight",), marks=("sign",))
KEEP_SIGN = Kernel(keep_sign, reads=("weight", "sign"), writes=("weight",), marks=("sign",))


def apply_dales_principle(
    params: Tree, grads: Tree, state: BioState, /, *, key: Key | None = None
) -> tuple[Tree, Tree, BioState]:
    r"""Gives every weight the sign of its pre-synaptic unit; used once, before training.

    With the sign $s$ of the unit a weight comes from, $$ w \leftarrow s \, |w|. $$
    Signs belong to a weight matrix: a unit that feeds several may have another sign in each.

    Args:
        params: Tree of weights.
        grads: Tree of gradients; passed on.
        state: Any state with a ``sign`` tree shaped like ``params``, each leaf broadcasting with its weight.
        key: Unused; the rule is deterministic.

    Returns:
        The new ``params``, and ``grads`` and ``state`` as given.

    Raises:
        ValueError: If ``params`` and ``state.sign`` differ in structure.

    Example:
        >>> params = {"w": torch.tensor([[1.0, 2.0], [-3.0, -4.0]])}
        >>> state = BioState(rate=params, sign={"w": torch.tensor([[1.0, -1.0]])})
        >>> apply_dales_principle(params, params, state)[0]["w"]
        tensor([[ 1., -2.],
                [ 3., -4.]])

    References:
        Eccles, Fatt and Koketsu, Journal of Physiology 126, 1954; Strata and Harvey, Brain Research Bulletin 50, 1999.
    """
    return run_kernel(GIVE_SIGN, params, grads, state, key=key)


def enforce_dales_principle(
    params: Tree, grads: Tree, state: BioState, /, *, key: Key | None = None
) -> tuple[Tree, Tree, BioState]:
    r"""Stops weights from changing sign: one that crossed zero is set to zero.

    With the sign $s$ of the unit a weight comes from, $$ w \leftarrow s \max(s w, 0). $$
    Signs belong to a weight matrix: a unit that feeds several may have another sign in each.

    Args:
        params: Tree of weights.
        grads: Tree of gradients; passed on.
        state: Any state with a ``sign`` tree shaped like ``params``, each leaf broadcasting with its weight.
        key: Unused; the rule is deterministic.

    Returns:
        The new ``params``, and ``grads`` and ``state`` as given.

    Raises:
        ValueError: If ``params`` and ``state.sign`` differ in structure.

    Example:
        >>> params = {"w": torch.tensor([[1.0, 2.0], [-3.0, -4.0]])}
        >>> state = BioState(rate=params, sign={"w": torch.tensor([[1.0, -1.0]])})
        >>> enforce_dales_principle(params, params, state)[0]["w"]
        tensor([[ 1.,  0.],
                [ 0., -4.]])

    References:
        Eccles, Fatt and Koketsu, Journal of Physiology 126, 1954; Strata and Harvey, Brain Research Bulletin 50, 1999.
    """
    return run_kernel(KEEP_SIGN, params, grads, state, key=key)
