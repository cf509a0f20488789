"""Rejuvenation: weak synapses are lost and new ones grow in their place."""

from operator import itemgetter
from typing import NamedTuple

import torch
from optree import tree_leaves, tree_map
from torch import Tensor

from funcbio.base import BioState, Key, Number, Tree, check_option
from funcbio.checks import require_like, require_numbers
from funcbio.rng import normal_tree, uniform_tree
from funcbio.statistics import count, largest, total


def regrow_lognormal(
    weight: Tensor, unit: Tensor, noise: Tensor, sign: Tensor, *, strength: Number
) -> tuple[Tensor, Tensor]:
    """Returns one layer's new weights and which were replaced; ``unit`` is uniform, ``noise`` normal, ``sign`` is +-1.

    All statistics are taken of |w| / max|w|, so that no magnitude overflows.
    """
    relative, top, finite = _relative_magnitude(weight)
    number = count(finite).clamp_min(1)
    mean = (total(relative) / number).clamp_min(1e-15)  # Less only if all weights are 0; its square must not be.
    variance = total(torch.where(finite, (relative - mean) ** 2, 0.0)) / (number - 1).clamp_min(1)
    # "U < exp(-d |w| / std)", without the division that fails for equal weights.
    weak = -torch.log1p(-unit) * _std(weight, top, finite) > strength * relative
    replaced = weak | ~finite
    log_variance = torch.log1p(variance / mean**2)
    magnitude = torch.exp(torch.log(mean) - 0.5 * log_variance + torch.sqrt(log_variance) * noise)
    grown = sign * (top * magnitude.clamp_max(1.0))
    return torch.where(replaced, grown.to(weight.dtype), weight), replaced


def regrow_uniform(
    weight: Tensor, unit: Tensor, noise: Tensor, sign: Tensor, *, strength: Number
) -> tuple[Tensor, Tensor]:
    """Returns one layer's new weights and which were replaced, by the rule of the paper's experiments."""
    relative, top, finite = _relative_magnitude(weight)
    replaced = (noise.abs() > strength * relative) | ~finite
    return torch.where(replaced, (sign * (top * unit)).to(weight.dtype), weight), replaced


def _relative_magnitude(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """|w| / max|w| in float32 or better, the maximum, and which weights are finite; others count as 0."""
    finite = weight.isfinite()
    magnitude = torch.where(finite, weight.abs(), 0.0).to(torch.promote_types(weight.dtype, torch.float32))
    top = largest(magnitude)
    return magnitude / torch.where(top > 0.0, top, 1.0), top, finite


def _std(weight: Tensor, top: Tensor, finite: Tensor) -> Tensor:
    """Standard deviation of the finite w / max|w|."""
    scaled = torch.where(finite, weight, 0.0).to(top.dtype) / torch.where(top > 0.0, top, 1.0)
    number = count(finite).clamp_min(1)
    deviation = torch.where(finite, scaled - total(scaled) / number, 0.0)
    return torch.sqrt(total(deviation**2) / (number - 1).clamp_min(1))


def regrow_release(
    weight: Tensor, unit: Tensor, noise: Tensor, sign: Tensor, *, strength: Number
) -> tuple[Tensor, Tensor]:
    """Returns one layer's new weights and which were replaced, by the rule of release 0.0.5.

    It clamps every weight, and takes mean and standard deviation of w itself as those of a log-normal magnitude.
    """
    del sign
    known = torch.nan_to_num(weight.to(torch.promote_types(weight.dtype, torch.float32)), nan=0.0).clamp(-1.0, 1.0)
    mean = _positive(total(known) / known.numel())
    count = max(known.numel() - 1, 1)
    std = _positive(torch.sqrt(total((known - total(known) / known.numel()) ** 2) / count))
    replaced = (unit < torch.exp(-strength * known.abs() / std)) | weight.isnan()
    # Squares of tiny numbers are 0, and of no ratio.
    log_variance = torch.log(1.0 + torch.nan_to_num(std**2 / mean**2, nan=1.0))
    grown = torch.exp(torch.log(mean) - 0.5 * log_variance + 0.5 * torch.sqrt(log_variance) * noise).clamp(-1.0, 1.0)
    return torch.where(replaced, grown, known).to(weight.dtype), replaced


def _positive(number: Tensor) -> Tensor:
    return torch.where(number > 0.0, number, 1e-8)


VARIANTS = {"lognormal": regrow_lognormal, "uniform": regrow_uniform, "0.0.5": regrow_release}


def rejuvenate_weights(
    params: Tree,
    grads: Tree,
    state: BioState,
    /,
    *,
    key: Key | None = None,
    strength: Number = 8.0,
    variant: str = "lognormal",
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

    Args:
        params: Tree of weights.
        grads: Tree of gradients, shaped like ``params``; passed on.
        state: Any state with a ``rate`` tree shaped like ``params``, and ``sign`` and ``replaced`` fields.
        key: A fresh key for each call.
        strength: $d > 0$; the larger, the fewer weights are replaced.
        variant: "lognormal", "uniform" or "0.0.5".

    Returns:
        The new ``params``, ``grads`` as given, and ``state`` with ``replaced``: True where a weight is new.

    Raises:
        ValueError: If the trees differ in structure, ``key`` is None or the variant is unknown.

    Example:
        >>> params = grads = {"w": torch.tensor([[0.0, 1.0], [-1.0, float("nan")]])}
        >>> state = BioState(rate={"w": torch.ones(2, 2)})
        >>> params, _, state = rejuvenate_weights(params, grads, state, key=key(0))
        >>> state.replaced["w"]
        tensor([[ True, False],
                [False,  True]])

    References:
        Hofmann et al., Nature Communications 16, 5112 (2025).
    """
    check_option("variant", variant, VARIANTS)
    require_numbers(strength=strength)
    signed = {"sign": state.sign} if tree_leaves(state.sign) else {}
    require_like(params, grads=grads, rate=state.rate, **signed)
    unit = uniform_tree(key, "rejuvenate_weights/unit", state.rate)
    noise = normal_tree(key, "rejuvenate_weights/noise", state.rate)
    sign = _signs(key, state)

    def regrow(mark: Tensor, weight: Tensor, *draws: Tensor) -> _Regrown:
        if mark.ndim == 0 or weight.numel() == 0:
            return _Regrown(weight, torch.zeros_like(mark, dtype=torch.bool))
        return _Regrown(*VARIANTS[variant](weight, *draws, strength=strength))

    pairs = tree_map(regrow, state.rate, params, unit, noise, sign)
    weights, replaced = (tree_map(itemgetter(i), pairs, is_leaf=_is_regrown) for i in (0, 1))
    return weights, grads, state._replace(replaced=replaced)


class _Regrown(NamedTuple):
    weight: Tensor
    replaced: Tensor


def _is_regrown(node: object) -> bool:
    return isinstance(node, _Regrown)


def _signs(key: Key | None, state: BioState) -> Tree:
    """The Dale sign where a leaf has one, else a fair coin for every weight."""
    unit = uniform_tree(key, "rejuvenate_weights/sign", state.rate)
    coins = tree_map(lambda number: torch.where(number < 0.5, 1.0, -1.0), unit)
    if not tree_leaves(state.sign):
        return coins
    return tree_map(lambda sign, coin: sign if sign.ndim else coin, state.sign, coins)
