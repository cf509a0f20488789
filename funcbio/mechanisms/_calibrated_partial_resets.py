"""Calibrated partial resets: every unit starts anew by a share, the larger the less it learns."""

from typing import Any

import torch
from torch import Tensor

from funcbio._checks import NOT_NEGATIVE, SHARE, require_within
from funcbio.anatomy._units import Units
from funcbio.base import BioState, Key, Number, Tree
from funcbio.mechanisms._counted import counted, due_at
from funcbio.mechanisms._renew import Named, blend, populations
from funcbio.mechanisms._unit_fields import UNIT_FIELDS, kept_for, with_kept
from funcbio.mechanisms._unit_scores import gradient_score
from funcbio.mechanisms._unit_utility import advance
from funcbio.tensors._arithmetic import number

LIMITS = {"replacement_rate": SHARE, "sharpness": NOT_NEGATIVE, "threshold": NOT_NEGATIVE, "decay": SHARE}


def share_reset(utility: Tensor, rate: Tensor, sharpness: Tensor, threshold: Tensor) -> Tensor:
    """Returns by which share each unit starts anew: ``rate`` up to the threshold, from there falling to 0."""
    # torch.sigmoid rounds otherwise at the end of a tensor.
    return rate * (2.0 / (1.0 + torch.exp(sharpness * (utility - threshold)))).clamp_max(1.0)


def calibrated_partial_resets(
    params: Tree,
    grads: Tree,
    state: BioState,
    /,
    *,
    key: Key | None = None,
    units: Units | None = None,
    replacement_rate: Number = 0.015,
    sharpness: Number = 16.0,
    threshold: Number = 1.0,
    decay: Number = 0.99,
    every: Any = 1000,
) -> tuple[Tree, Tree, BioState]:
    r"""Moves units that learn little a small way towards new ones, instead of replacing them.

    With the score $s_i$ of ``regrama``, the mean magnitude of the gradients of a unit's incoming weights divided by
    the mean over its layer, a running average $u_i$ follows it at every call, from 1:

    $$u_i \leftarrow \eta u_i + (1 - \eta) s_i, \qquad
    r_i = \rho \min\left(1, \frac{2}{1 + e^{k (u_i - \theta)}}\right).$$

    At every $N$-th call $w \leftarrow (1 - r_i) w + r_i w'$ for incoming weights, with $w'$ drawn from those that the
    layer began with, and $w \leftarrow (1 - r_i) w$ for outgoing ones; then $u_i$ starts again from 1. Biases, entries
    of norms and the optimizer's memory stay, and no weight counts as ``replaced``.

    Args:
        params: Tree of parameters.
        grads: Tree of gradients; passed on.
        state: A state with ``start``, ``calls`` and the units' ``unit_gradient``, as
            ``init(..., units=units, keep=["calibrated_partial_resets"])`` makes it; float32, one for each unit.
        key: Key of the fresh weights.
        units: Table of the model's units, from ``funcbio.units``.
        replacement_rate: $\rho$, the largest share by which a unit starts anew, in [0, 1].
        sharpness: $k \ge 0$, how fast the share falls beyond the threshold.
        threshold: $\theta \ge 0$, the utility up to which it is $\rho$; the mean of a layer is 1.
        decay: $\eta$ of the running average, in [0, 1].
        every: $N$, an integer of 1 or more: calls from one reset to the next.

    Returns:
        The new ``params``, ``grads`` as given, and ``state`` with the new ``calls`` and ``units``.

    Raises:
        ValueError: If the trees differ in structure, something is not kept, or a number is out of its limits.

    Example:
        >>> net = torch.nn.Sequential(
        ...     torch.nn.Linear(2, 2), torch.nn.ReLU(), torch.nn.Linear(2, 1)
        ... )
        >>> params, table = dict(net.named_parameters()), units(net, torch.ones(4, 2))
        >>> keep = ["calibrated_partial_resets"]
        >>> state = init(params, key=key(0), synapses=synapses(net), units=table, keep=keep)
        >>> grads = {**params, "0.weight": torch.tensor([[0.0, 0.0], [4.0, 4.0]])}
        >>> options = {"units": table, "every": 1, "replacement_rate": 0.5, "decay": 0.0}
        >>> new, _, state = calibrated_partial_resets(
        ...     params, grads, state, key=key(1), **options
        ... )
        >>> new["2.weight"] / params["2.weight"]
        tensor([[0.5000, 1.0000]], grad_fn=<DivBackward0>)

    References:
        LucMc/continual-learning, continual_learning/optim/cpr.py, "Calibrated Partial Resets (CPR)".
    """
    hyper: Any = {"sharpness": sharpness, "threshold": threshold, "decay": decay, "replacement_rate": replacement_rate}
    require_within(LIMITS, hyper)
    calls, state = counted(state, "calibrated_partial_resets")
    due, named = due_at(calls, every) > 0.0, Named(params, grads, state)
    for population in populations(units, named, "calibrated_partial_resets"):
        average = kept_for(state, "unit_gradient", population.name)
        rate, steep, middle, slow = (
            number(value, torch.float32, average.device) for value in (replacement_rate, sharpness, threshold, decay)
        )
        score = gradient_score(named.grads, population)
        average = torch.where(score.isfinite(), advance(average, score, slow), average)
        share = share_reset(average, rate, steep, middle) * (population.replaceable & due)
        blend(named, population, share, key=key, stream="calibrated_partial_resets")
        average = average.masked_fill(due, UNIT_FIELDS["unit_gradient"].initial)
        state = with_kept(state, unit_gradient={population.name: average})
    params, _ = named.result(state)  # What another feature replaced stays said.
    return params, grads, state
