"""Dale's principle: all weights that leave a unit share one sign."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from funcbio.base import BioState, Key, Tree
from funcbio.engine._kernel import Kernel
from funcbio.engine._run import run_kernel


def give_sign(weight: Tensor, sign: Tensor) -> Tensor:
    """Returns |w| with the sign of its pre-synaptic unit; ``sign`` broadcasts, and is 0 where a unit has none."""
    return torch.where(sign == 0.0, weight, weight.abs() * sign)


def keep_sign(weight: Tensor, sign: Tensor) -> Tensor:
    """Returns the weights of one layer, with 0 where one has the wrong sign."""
    return torch.where(sign * weight < 0.0, 0.0, weight)


def balance_sign(weight: Tensor, sign: Tensor) -> Tensor:
    """Returns weights of the signs of their units, those of inhibitory units larger as these are fewer."""
    excitatory, inhibitory = (sign > 0.0).sum(), (sign < 0.0).sum()
    both = (excitatory > 0) & (inhibitory > 0)
    ratio = torch.where(both, excitatory / inhibitory.clamp_min(1), 1.0).to(weight.dtype)
    return give_sign(weight, torch.where(sign < 0.0, ratio * sign, sign))


def dale_start(*, balance: bool) -> tuple[Kernel, dict[str, Any]]:
    """Returns the kernel that gives weights their signs."""
    return (BALANCE_SIGN if balance else GIVE_SIGN), {}


GIVE_SIGN = Kernel(give_sign, reads=("weight", "sign"), writes=("weight",), marks=("sign",))
BALANCE_SIGN = replace(GIVE_SIGN, rule=balance_sign, by_leaf=True, elementwise=False)
KEEP_SIGN = Kernel(keep_sign, reads=("weight", "sign"), writes=("weight",), marks=("sign",))


def apply_dales_principle(
    params: Tree, grads: Tree, state: BioState, /, *, key: Key | None = None, balance: bool = False
) -> tuple[Tree, Tree, BioState]:
    r"""Gives every weight the sign of its pre-synaptic unit; used once, before training.

    With the sign $s$ of the unit a weight comes from, $$ w \leftarrow s \, |w|. $$
    A unit has one sign for all weights that leave it if the state was made with the table of the model's units,
    ``init(..., units=units)``; else it may have another sign in each weight matrix. A sign of 0 leaves weights free.

    Args:
        params: Tree of weights.
        grads: Tree of gradients; passed on.
        state: Any state with a ``sign`` tree shaped like ``params``, each leaf broadcasting with its weight.
        key: Unused; the rule is deterministic.
        balance: Whether weights of inhibitory units also grow by the number of excitatory units over theirs, so that
            the sum over the inputs of a unit is 0 on average.

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
        Balance: Song, Yang and Wang, PLoS Computational Biology 12, 2016; PsychRNN (Ehrlich et al., eNeuro 8, 2021).
    """
    return run_kernel(dale_start(balance=balance)[0], params, grads, state, key=key)


def enforce_dales_principle(
    params: Tree, grads: Tree, state: BioState, /, *, key: Key | None = None
) -> tuple[Tree, Tree, BioState]:
    r"""Stops weights from changing sign: one that crossed zero is set to zero.

    With the sign $s$ of the unit a weight comes from, $$ w \leftarrow s \max(s w, 0). $$
    A unit has one sign for all weights that leave it if the state was made with the table of the model's units,
    ``init(..., units=units)``; else it may have another sign in each weight matrix. A sign of 0 leaves weights free.

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
