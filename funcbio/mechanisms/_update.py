"""Dynamic rate factors: how the rates drift, follow the weights, or follow activity."""

from typing import Any

import torch
from torch import Tensor

from funcbio._checks import COUNT, FRACTION_OR_ONE, POSITIVE
from funcbio.base import BioState, Key, Number, Tree, check_option
from funcbio.engine._kernel import Draw, Kernel
from funcbio.engine._masks import bounded, choose
from funcbio.engine._run import run_kernel
from funcbio.engine._statistics import mean
from funcbio.mechanisms._rates import MAXIMUM, MINIMUM, NU, RANGE, SAMPLERS, activity_nu, limited, spread, weight_nu
from funcbio.mechanisms._release import VERSION, release_updates, updates_if
from funcbio.rng import UNIFORM

REDRAW_PROBABILITY = 0.1
KICK = 0.1
KICK_EVERY = 10


def drift_rate(
    rate: Tensor,
    unit: Tensor,
    *,
    nu: Number,
    decay: Number,
    every: int | Tensor,
    minimum: Number,
    maximum: Number,
    statistics: tuple[Tensor],
) -> Tensor:
    """Moves temporal rates towards 1 at every ``every``-th update, and adds noise at every tenth of those.

    ``statistics`` is the number of this update.
    """
    (updates,) = statistics
    due = updates % every == 0
    shaken = updates % (KICK_EVERY * every) == 0
    moved = 1.0 + (rate - 1.0) * decay + torch.where(shaken, KICK * (spread(unit, nu) - 1.0), 0.0)
    changed = due & (moved != rate)  # Rates that do not change are not touched, not even clamped.
    return torch.where(changed, limited(moved, minimum, maximum), rate)


def redraw_rate_by_weight(
    rate: Tensor,
    weight: Tensor,
    unit: Tensor,
    *,
    nu: Number,
    minimum: Number,
    maximum: Number,
    statistics: tuple[Tensor, Tensor],
    **_: object,
) -> Tensor:
    """Draws weight-adaptive rates anew, with more spread for weights under the layer's mean magnitude.

    ``statistics`` are that mean, and whether to draw at all.
    """
    average, redrawn = statistics
    new = limited(spread(unit, weight_nu(weight, nu, average)), minimum, maximum)
    return choose(redrawn, new, bounded(rate))


def redraw_rate_by_activity(
    rate: Tensor,
    activity: Tensor,
    unit: Tensor,
    coin: Tensor,
    *,
    nu: Number,
    minimum: Number,
    maximum: Number,
    statistics: tuple[Tensor, Tensor],
    **_: object,
) -> Tensor:
    """Draws rates of some rows anew, by activity, all at the first update; ``coin`` is uniform, one number a row.

    ``statistics`` are the mean count of the layer, and the number of this update.
    """
    average, updates = statistics
    redrawn = (updates == 1) | (coin < REDRAW_PROBABILITY)
    new = limited(spread(unit, activity_nu(activity, nu, average)), minimum, maximum)
    return choose(redrawn, new, bounded(rate))


def _next(updates: Tensor) -> tuple[Tensor]:
    return (updates + 1,)


def _mean_weight(weight: Tensor, updates: Tensor) -> tuple[Tensor, Tensor]:
    return mean(weight, torch.abs), torch.ones_like(updates, dtype=torch.bool)


def _mean_activity(activity: Tensor, updates: Tensor) -> tuple[Tensor, Tensor]:
    return mean(activity.to(torch.float32)), updates + 1


UNIT = Draw("update_fuzzy_learning_rates/unit", UNIFORM)
COIN = Draw("update_fuzzy_learning_rates/coin", UNIFORM, like="activity")
LIMITS = {"nu": POSITIVE, "decay": FRACTION_OR_ONE, "every": COUNT, **RANGE}
TEMPORAL = Kernel(
    drift_rate,
    reads=("rate",),
    writes=("rate",),
    draws=(UNIT,),
    statistics=_next,
    of=("updates",),
    limits=LIMITS,
    advances=True,
)
BY_WEIGHT = Kernel(
    redraw_rate_by_weight,
    reads=("rate", "weight"),
    writes=("rate",),
    draws=(UNIT,),
    statistics=_mean_weight,
    of=("weight", "updates"),
    limits=LIMITS,
    advances=True,
)
BY_ACTIVITY = Kernel(
    redraw_rate_by_activity,
    reads=("rate", "activity"),
    writes=("rate",),
    draws=(UNIT, COIN),
    statistics=_mean_activity,
    of=("activity", "updates"),
    marks=("rate", "activity"),  # Layers that do not record activity are skipped.
    limits=LIMITS,
    advances=True,
)
UPDATES = {"temporal": TEMPORAL, "weight_adaptive": BY_WEIGHT, "activity": BY_ACTIVITY}
RULES = {"default": UPDATES, VERSION: release_updates(UPDATES)}


def moves(distribution: str, *, dynamic: bool, variant: str = "default") -> bool:
    """Returns True if rates of this distribution ever change."""
    updated = updates_if(distribution, dynamic=dynamic) if variant == VERSION else dynamic
    return updated and distribution in RULES[variant]


def fixed_rates(config: Any) -> str | None:
    """Returns why updates of the rates change nothing under a configuration; None if they do."""
    kind, dynamic, variant = config.fuzzy_lr_distribution, config.fuzzy_lr_dynamic, config.fuzzy_lr_variant
    if moves(kind, dynamic=dynamic, variant=variant):
        return None
    should = "update_fuzzy_learning_rates should have rates that move"
    if moves(kind, dynamic=not dynamic, variant=variant):
        return f"{should}; found fuzzy_lr_dynamic={dynamic}"
    return f"{should}: temporal, weight_adaptive or activity; found fuzzy_lr_distribution={str(kind.value)!r}"


def rate_update(
    *, distribution: str, dynamic: bool, variant: str, **hyper: Any
) -> tuple[Kernel | None, dict[str, Any]]:
    """Returns the kernel that moves rates of a distribution, None if they stay, and its hyper-parameters."""
    return (RULES[variant][distribution] if moves(distribution, dynamic=dynamic, variant=variant) else None), hyper


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
    r"""Updates the rate factors of the dynamic distributions by one step; the other distributions stay.

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
        >>> state = update_fuzzy_learning_rates(params, grads, state, key=key(0), decay=0.5)[2]
        >>> state.rate["w"]
        tensor([0.9000, 1.1000])

    References:
        Hofmann et al., Nature Communications 16, 5112 (2025).
    """
    check_option("distribution", distribution, SAMPLERS)
    check_option("variant", variant, RULES)
    if not moves(distribution, dynamic=dynamic, variant=variant):
        return params, grads, state
    hyper = {"nu": nu, "decay": decay, "every": every, "minimum": minimum, "maximum": maximum}
    return run_kernel(RULES[variant][distribution], params, grads, state, key=key, **hyper)
