"""Rejuvenation: weak synapses are lost and new ones grow in their place."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from funcbio._checks import LARGEST, POSITIVE, require_within
from funcbio.base import BioState, Key, Number, Tree, at_least, check_option
from funcbio.engine._kernel import Draw, Kernel
from funcbio.engine._masks import above, finite, finite_or, select
from funcbio.engine._run import run_kernel
from funcbio.engine._statistics import largest, totals
from funcbio.mechanisms._release import VERSION, clamped_moments, regrow_release
from funcbio.mechanisms._select import FRACTION, KERNELS, RULES, UTILITIES
from funcbio.rng import NORMAL, UNIFORM
from funcbio.tensors._arithmetic import signed, spare, widened

LEAST = 1 / LARGEST
"""The smallest strength: times the number that stands for weights that are not finite, a smaller one would be 0."""


class Magnitudes(NamedTuple):
    """Holds statistics of a layer for the log-normal rule: of w / max|w|, so that no magnitude overflows.

    Attributes:
        top: max|w| of the finite weights.
        std: Standard deviation of w / max|w|.
        log_mean: Mean of log(|w| / max|w|), if that were normal.
        log_std: Its standard deviation.
    """

    top: Tensor
    std: Tensor
    log_mean: Tensor
    log_std: Tensor


def magnitudes(weight: Tensor) -> Magnitudes:
    """Computes the statistics for ``regrow_lognormal``, of finite weights only."""
    (top,) = top_magnitude(weight)

    def first(part: Tensor, top: Tensor) -> tuple[Tensor, ...]:
        scaled, present = _scaled(part, top)
        return present, scaled, scaled.abs()

    number, center, mean = totals(weight, first, top)
    number, others = number.clamp_min(1.0), (number - 1.0).clamp_min(1.0)
    center, mean = center / number, mean / number

    def second(part: Tensor, top: Tensor, center: Tensor, mean: Tensor) -> tuple[Tensor, ...]:
        scaled, present = _scaled(part, top)
        return ((scaled - center) * present).square(), ((scaled.abs() - mean) * present).square()

    squares, magnitude_squares = totals(weight, second, top, center, mean)
    mean = mean.clamp_min(1e-15)  # Less only if all weights are 0; its square must not be.
    log_variance = torch.log1p(magnitude_squares / others / mean**2)
    log_mean = torch.log(mean) - 0.5 * log_variance
    return Magnitudes(top, torch.sqrt(squares / others), log_mean, torch.sqrt(log_variance))


def top_magnitude(weight: Tensor) -> tuple[Tensor]:
    """Returns the largest of the finite |w|, in float32 or better."""
    return (largest(weight, lambda part: finite_or(widened(part), 0.0).abs()),)


def _scaled(weight: Tensor, top: Tensor) -> tuple[Tensor, Tensor]:
    """Returns w / max|w|, with 0 for weights that are not finite, and a mask: 1 where a weight is finite, else 0."""
    wide = widened(weight)
    return finite_or(wide, 0.0) / torch.where(top > 0.0, top, 1.0), finite(wide)


def _relative(weight: Tensor, top: Tensor) -> Tensor:
    """Returns |w| / max|w|; less than 0 where a weight is not finite, so that it is always replaced."""
    relative = (weight / torch.where(top > 0.0, top, 1.0)).abs()
    return finite_or(relative, -1.0, where=weight)


def regrow_lognormal(
    weight: Tensor,
    sign: Tensor | None,
    unit: Tensor,
    noise: Tensor,
    *,
    strength: Number,
    statistics: tuple[Tensor, ...] | None = None,
) -> tuple[Tensor, Tensor]:
    """Returns one layer's new weights and which were replaced; ``unit`` is uniform, ``noise`` normal.

    ``sign`` is +-1, or None for a fair coin taken from ``unit``.
    """
    top, std, log_mean, log_std = magnitudes(weight) if statistics is None else statistics
    # Numbers on [0, 1) come in steps of a power of 2: their distance from 1 is exact.
    relative, waited = _relative(weight, top), (1.0 - unit).log_().neg_()
    strength = at_least(strength, LEAST)
    # "U < exp(-d |w| / std)", without the division that fails for equal weights.
    replaced = above(waited * std, strength * relative)
    # An exponential has no memory: beyond its threshold, half of it is above log 2.
    relative = torch.clamp_min(relative, 0.0, out=spare(relative))
    passed = torch.mul(relative, strength / torch.where(std > 0.0, std, 1.0), out=spare(relative))
    coin = torch.sub(waited, passed, out=spare(waited)).sub_(math.log(2.0))
    sign = coin if sign is None else torch.where(sign == 0.0, coin, sign)  # Units without a sign have either.
    magnitude = (log_std * noise).add_(log_mean).exp_()
    magnitude = torch.clamp_max(magnitude, 1.0, out=spare(magnitude))
    grown = torch.mul(magnitude, top, out=spare(magnitude))
    return _regrown(weight, torch.copysign(grown, sign, out=spare(grown)), replaced)


def _regrown(weight: Tensor, grown: Tensor, replaced: Tensor) -> tuple[Tensor, Tensor]:
    return select(replaced, grown, weight), replaced.bool()


def regrow_uniform(
    weight: Tensor,
    sign: Tensor | None,
    unit: Tensor,
    noise: Tensor,
    *,
    strength: Number,
    statistics: tuple[Tensor, ...] | None = None,
) -> tuple[Tensor, Tensor]:
    """Returns one layer's new weights and which were replaced, by the rule of the paper's experiments."""
    (top,) = top_magnitude(weight) if statistics is None else statistics
    grown = top * (2.0 * unit - 1.0)
    grown = signed(grown, sign)
    return _regrown(weight, grown, above(noise.abs(), at_least(strength, LEAST) * _relative(weight, top)))


def _kernel(rule: Callable[..., Any], statistics: Callable[[Tensor], tuple[Tensor, ...]], *reads: str) -> Kernel:
    draws = Draw("rejuvenate_weights/unit", UNIFORM), Draw("rejuvenate_weights/noise", NORMAL)
    return Kernel(rule, reads, ("weight", "replaced"), draws, statistics, limits={"strength": POSITIVE})


REJUVENATIONS = {
    "lognormal": _kernel(regrow_lognormal, magnitudes, "weight", "sign?"),
    "uniform": _kernel(regrow_uniform, top_magnitude, "weight", "sign?"),
    VERSION: _kernel(regrow_release, clamped_moments, "weight"),
}


VARIANTS = (*REJUVENATIONS, "swr")
USUAL = {"swr": ("|g w|", "threshold")}
"""Utility and rule of variants that do not choose by |w| and a probability."""
DEFAULT = "default"


def rejuvenation(
    *, variant: str, utility: str = DEFAULT, rule: str = DEFAULT, strength: Number, fraction: Number = 0.0
) -> tuple[Kernel, dict[str, Any]]:
    """Returns the kernel of a variant, and its hyper-parameters."""
    usual = USUAL.get(variant, ("|w|", "probability"))
    chosen = usual[0] if utility == DEFAULT else utility, usual[1] if rule == DEFAULT else rule
    if variant in REJUVENATIONS and chosen == usual:
        return REJUVENATIONS[variant], {"strength": strength}
    if variant == VERSION:
        raise ValueError(f"utility and rule should be those of variant {VERSION!r}; found {utility!r} and {rule!r}")
    return KERNELS[(variant, *chosen)], {"strength": strength, "fraction": fraction}


def rejuvenate_weights(
    params: Tree,
    grads: Tree,
    state: BioState,
    /,
    *,
    key: Key | None = None,
    strength: Number = 8.0,
    variant: str = "lognormal",
    utility: str = DEFAULT,
    rule: str = DEFAULT,
    fraction: Number = 1e-6,
) -> tuple[Tree, Tree, BioState]:
    r"""Replaces weak weights by new ones and notes which.

    "lognormal" replaces a weight with probability $\exp(-d |w| / \mathrm{std}(w))$. The new magnitude is
    log-normal with the mean and standard deviation of the layer's $|w|$, at most $\max |w|$.
    "uniform", the rule of the paper's experiments, replaces it where $|N(0, (M/d)^2)| > |w|$ with $M = \max |w|$,
    by a new magnitude on $U(0, M)$. In both, the sign is a fair coin, or the Dale sign where one applies.
    Weights that are not finite are always replaced; those that are not chosen keep every bit.
    "0.0.5", for reproducing results of that release of ``bio_transformations``, first clamps all weights to [-1, 1],
    and draws positive magnitudes with the mean (1e-8 where that is not positive) and half the log-scale deviation of
    $w$ itself: in layers of mean near zero it writes values under 1e-6, which is pruning.

    "swr", selective weight reinitialization, replaces the weights of little utility $u$ by initial weights of the
    layer, drawn at random from ``state.start``. Utility and rule can be chosen for every variant but "0.0.5". With
    $u = |w|$, $|g w|$ or noise, of $n$ weights, and $U$ uniform on $[0, 1)$, a weight is lost where

    $$ u < -\ln(U) \, \mathrm{std}(u) / d \ \text{("probability")}, \quad
    u \le r \, \mathrm{mean}(u) \ \text{("threshold")}, \quad
    \mathrm{rank}(u) < \lfloor r n + U \rfloor \ \text{("proportional")}. $$

    Where the state holds a ``mask``, only connections that exist are replaced, and count; "0.0.5" counts all.

    Args:
        params: Tree of weights.
        grads: Tree of gradients, shaped like ``params``; passed on. The utility "|g w|" reads them.
        state: Any state with a ``rate`` tree shaped like ``params``, and ``sign`` and ``replaced`` fields; for "swr"
            also with ``start``, as ``init(..., keep=["start"])`` makes it.
        key: A fresh key for each call.
        strength: $d > 0$, for the rule "probability"; the larger, the fewer weights are replaced.
        variant: "lognormal", "uniform", "0.0.5" or "swr".
        utility: What counts as weak: "|w|", "|g w|", "random", or "default": "|g w|" for "swr", else "|w|".
        rule: How many are replaced: "probability", "threshold", "proportional", or "default": "threshold" for "swr",
            else the variant's own.
        fraction: $r$ in [0, 1]: for "threshold" a share of the mean utility, for "proportional" of the weights.

    Returns:
        The new ``params``, ``grads`` as given, and ``state`` with ``replaced``: True where a weight is new.

    Raises:
        ValueError: If the trees differ in structure, ``key`` is None, the variant, utility or rule is unknown, the
            strength not > 0, the fraction not in [0, 1], or the state holds no ``start`` for "swr".

    Example:
        >>> params = grads = {"w": torch.tensor([[0.0, 1.0], [-1.0, float("nan")]])}
        >>> state = BioState(rate={"w": torch.ones(2, 2)})
        >>> params, _, state = rejuvenate_weights(params, grads, state, key=key(0))
        >>> state.replaced["w"]
        tensor([[ True, False],
                [False,  True]])
        >>> start = {"w": torch.full((2, 2), 0.5)}  # As ``init(..., keep=["start"])`` notes it.
        >>> state = state._replace(start=start)
        >>> params = {"w": torch.tensor([[0.1, 1.0], [-1.0, 2.0]])}
        >>> options = {"variant": "swr", "fraction": 0.01}
        >>> rejuvenate_weights(params, params, state, key=key(0), **options)[0]["w"]
        tensor([[ 0.5000,  1.0000],
                [-1.0000,  2.0000]])

    References:
        Hofmann et al., Nature Communications 16, 5112 (2025). "swr": Hernandez-Garcia et al., CoLLAs 2025, PMLR 330,
        arXiv:2508.00212.
    """
    check_option("variant", variant, VARIANTS)
    check_option("utility", utility, (DEFAULT, *UTILITIES))
    check_option("rule", rule, (DEFAULT, *RULES))
    require_within(FRACTION, {"fraction": fraction})
    options = {"variant": variant, "utility": utility, "rule": rule}
    kernel, hyper = rejuvenation(**options, strength=strength, fraction=fraction)
    return run_kernel(kernel, params, grads, state, key=key, **hyper)
