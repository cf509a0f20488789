"""Dynamic rate factors: how the rates drift, follow the weights, or follow activity."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from funcbio.base import BioState, Key, Number, Tree, check_option, map_synapses
from funcbio.checks import is_number, require_like, require_numbers, shown
from funcbio.rates import MAXIMUM, MINIMUM, NU, SAMPLERS, activity_nu, limited, spread, weight_nu
from funcbio.rng import uniform_tree

REDRAW_PROBABILITY = 0.1
KICK = 0.1
KICK_EVERY = 10


def drift_rate(
    rate: Tensor, weight: Tensor, unit: Tensor, *, updates: Tensor, nu: Number, decay: Number, every: int | Tensor
) -> Tensor:
    """Temporal: every ``every``-th update moves rates towards 1, every tenth of those shakes them."""
    del weight
    due = updates % every == 0
    shaken = updates % (KICK_EVERY * every) == 0
    moved = 1.0 + (rate - 1.0) * decay + torch.where(shaken, KICK * (spread(unit, nu) - 1.0), 0.0)
    return torch.where(due, moved, rate)


def redraw_rate_by_weight(rate: Tensor, weight: Tensor, unit: Tensor, *, nu: Number, **_: object) -> Tensor:
    """Weight-adaptive: new rates, more spread for weights under the layer's mean magnitude."""
    del rate
    return spread(unit, weight_nu(weight, nu))


def redraw_rate_by_activity(
    rate: Tensor,
    weight: Tensor,
    unit: Tensor,
    activity: Tensor,
    coin: Tensor,
    *,
    updates: Tensor,
    nu: Number,
    **_: object,
) -> Tensor:
    """Activity: new rates for some rows, all at the first update; ``coin`` is uniform, one number for each row."""
    del weight
    redrawn = (updates == 1) | (coin < REDRAW_PROBABILITY)
    return torch.where(redrawn, spread(unit, activity_nu(activity, nu)), rate)


def draw_rate_by_weight(rate: Tensor, weight: Tensor, unit: Tensor, *, updates: Tensor, **hyper: Any) -> Tensor:
    """Weight-adaptive in release 0.0.5: drawn at the first update, and never again."""
    return torch.where(updates == 1, redraw_rate_by_weight(rate, weight, unit, **hyper), rate)


def redraw_layer_by_activity(
    rate: Tensor, weight: Tensor, unit: Tensor, activity: Tensor, coin: Tensor, **hyper: Any
) -> Tensor:
    """Activity in release 0.0.5: one coin for the whole layer."""
    return redraw_rate_by_activity(rate, weight, unit, activity, coin[(slice(0, 1),) * coin.ndim], **hyper)


RULES: dict[str, dict[str, Callable[..., Tensor]]] = {
    "default": {
        "temporal": drift_rate,
        "weight_adaptive": redraw_rate_by_weight,
        "activity": redraw_rate_by_activity,
    },
    "0.0.5": {
        "temporal": drift_rate,
        "weight_adaptive": draw_rate_by_weight,
        "activity": redraw_layer_by_activity,
    },
}


def moves(distribution: str, *, dynamic: bool, variant: str = "default") -> bool:
    """Whether rates of this distribution ever change; in release 0.0.5, weight-adaptive ones only if not dynamic."""
    if variant == "0.0.5" and distribution == "weight_adaptive":
        return not dynamic
    return dynamic and distribution in RULES[variant]


def _require_counts(*, every: object, updates: object) -> None:
    """Raises ValueError if one of the two is no count of calls."""
    counts = isinstance(every, Tensor) or (isinstance(every, int) and is_number(every) and every >= 1)
    if not counts or (isinstance(every, Tensor) and (every.ndim or every.is_complex())):
        raise ValueError(f"every should be an integer >= 1, or a tensor of no dimensions; found {shown(every)}")
    if not isinstance(updates, Tensor) or updates.ndim or updates.dtype not in (torch.int64, torch.int32):
        raise ValueError(f"updates should be an int64 tensor of no dimensions; found {shown(updates)}")


def update_fuzzy_learning_rates(
    params: Tree,
    grads: Tree,
    state: BioState,
    /,
    *,
    key: Key | None = None,
    distribution: str = "temporal",
    dynamic: bool = True,
    variant: str = "default",
    nu: Number = NU,
    decay: Number = 0.9995,
    every: int | Tensor = 100,
    minimum: Number = MINIMUM,
    maximum: Number = MAXIMUM,
) -> tuple[Tree, Tree, BioState]:
    r"""Moves the rate factors of the dynamic distributions one step on; the other distributions stay.

    - temporal: every ``every``-th call, $r \leftarrow 1 + (r - 1) \delta$; every tenth of those adds
      $0.1 \, U(-\nu, \nu)$.
    - weight_adaptive: $r$ is drawn anew from the current weights, as at the start.
    - activity: with the count $c_u$ of unit $u$ and $a_u = \mathrm{clamp}(1 + 0.1 (c_u / \bar c - 1), 0.8, 1.2)$,
      row $u$ is drawn anew from $U(1 \pm \nu (2 - a_u))$, at the first call for sure and later with
      probability 0.1 for each row and call.

    The variant "0.0.5" is what that release of ``bio_transformations`` did: weight_adaptive is drawn at the first call
    only, and only if not ``dynamic``; activity tosses one coin for the whole layer.
    New rates are clamped to ``[minimum, maximum]``; rates that do not change are not touched.

    Args:
        params: Tree of weights.
        grads: Tree of gradients; passed on.
        state: Any state with ``rate``, ``updates`` and, for activity, ``activity`` fields.
        key: A fresh key for each call.
        distribution: One of the ten names.
        dynamic: Whether to change anything; a constant, not to be swept.
        variant: "default" or "0.0.5".
        nu: $\nu > 0$.
        decay: $\delta$ in $(0, 1]$, for temporal.
        every: Period of temporal, in calls.
        minimum: Lower clamp.
        maximum: Upper clamp.

    Returns:
        ``params`` and ``grads`` as given, and ``state`` with new ``rate`` and ``updates``.

    Raises:
        ValueError: If the trees differ in structure, distribution or variant are unknown, or ``key`` is missing.

    Example:
        >>> state = BioState(rate={"w": torch.tensor([0.8, 1.2])}, updates=torch.tensor(99))
        >>> params = grads = {"w": torch.ones(2)}
        >>> update_fuzzy_learning_rates(params, grads, state, key=key(0), decay=0.5)[2].rate["w"]
        tensor([0.9000, 1.1000])

    References:
        Hofmann et al., Nature Communications 16, 5112 (2025).
    """
    check_option("distribution", distribution, SAMPLERS)
    check_option("variant", variant, RULES)
    if not moves(distribution, dynamic=dynamic, variant=variant):
        return params, grads, state
    require_numbers(nu=nu, decay=decay, minimum=minimum, maximum=maximum)
    _require_counts(every=every, updates=state.updates)
    activity = (state.activity,) if distribution == "activity" else ()
    require_like(params, grads=grads, rate=state.rate, **({"activity": state.activity} if activity else {}))
    updates = state.updates + 1

    def rule(rate: Tensor, weight: Tensor, unit: Tensor, *activity: Tensor) -> Tensor:
        if activity and activity[0].ndim == 0:
            return rate  # Nobody counts the activity of this layer's units.
        new = RULES[variant][distribution](
            rate, weight, unit, *activity, updates=updates, nu=nu, decay=decay, every=every
        )
        return torch.where(new == rate, rate, limited(new.to(rate.dtype), minimum, maximum))

    if activity:
        activity = *activity, uniform_tree(key, "update_fuzzy_learning_rates/coin", state.activity)
    unit = uniform_tree(key, "update_fuzzy_learning_rates/unit", state.rate)
    rate = map_synapses(rule, state.rate, state.rate, params, unit, *activity)
    return params, grads, state._replace(rate=rate, updates=updates)
