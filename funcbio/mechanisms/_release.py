"""Release 0.0.5 of ``bio_transformations``: every rule that it computed otherwise than its documentation says.

The mechanisms' files take their variants "0.0.5" from here, and hand over rules of theirs that a variant changes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from funcbio.base import Number, at_least
from funcbio.engine._kernel import Kernel
from funcbio.engine._masks import number_or
from funcbio.engine._statistics import count, mean, totals
from funcbio.tensors._arithmetic import widened

VERSION = "0.0.5"


def regrow_release(
    weight: Tensor, unit: Tensor, noise: Tensor, *, strength: Number, statistics: tuple[Tensor, ...] | None = None
) -> tuple[Tensor, Tensor]:
    """Returns one layer's new weights and which were replaced, by the rule of release 0.0.5.

    It clamps every weight, and takes mean and standard deviation of w itself as those of a log-normal magnitude.
    """
    average, std = clamped_moments(weight) if statistics is None else statistics
    kept = _clamped(weight)
    replaced = (unit < torch.exp(-strength * kept.abs() / std)) | weight.isnan()
    # Squares of tiny numbers are 0, and of no ratio.
    log_variance = torch.log(1.0 + torch.nan_to_num(std**2 / average**2, nan=1.0))
    log_mean = torch.log(average) - 0.5 * log_variance
    grown = torch.exp(log_mean + 0.5 * torch.sqrt(log_variance) * noise).clamp(-1.0, 1.0)
    return torch.where(replaced, grown, kept), replaced


def clamped_moments(weight: Tensor) -> tuple[Tensor, ...]:
    """Returns mean and standard deviation of the clamped weights, 1e-8 where not positive, for ``regrow_release``."""
    number = count(weight)
    average = totals(weight, lambda part: (_clamped(part),))[0] / number
    squares = totals(weight, lambda part, average: ((_clamped(part) - average).square(),), average)[0]
    variance = squares / at_least(number - 1, 1)
    return _positive(average), _positive(torch.sqrt(variance))


def _clamped(weight: Tensor) -> Tensor:
    return number_or(widened(weight), 0.0).clamp(-1.0, 1.0)


def _positive(number: Tensor) -> Tensor:
    return torch.where(number > 0.0, number, 1e-8)


def release_samplers(samplers: Mapping[str, Callable[[Any], Tensor]]) -> dict[str, Callable[[Any], Tensor]]:
    """Returns the samplers of the rates with those of the release: gamma is one more, two others are simpler."""
    gamma = samplers["gamma"]
    changed = {"layer_adaptive": samplers["uniform"], "weight_adaptive": samplers["baseline"]}
    return {**samplers, **changed, "gamma": lambda layer: 1.0 + gamma(layer)}


def release_updates(kernels: Mapping[str, Kernel]) -> dict[str, Kernel]:
    """Returns the updates of the rates with those of the release: by weight only once, by activity with one coin."""
    unit, coin = kernels["activity"].draws
    by_weight = replace(kernels["weight_adaptive"], statistics=_mean_weight_at_first)
    by_activity = replace(kernels["activity"], draws=(unit, coin._replace(like="one")))
    return {**kernels, "weight_adaptive": by_weight, "activity": by_activity}


def _mean_weight_at_first(weight: Tensor, updates: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the mean magnitude, and True at the first update: only then are rates drawn by weight."""
    return mean(weight, torch.abs), updates == 0


def updates_if(distribution: str, *, dynamic: bool) -> bool:
    """Returns True if rates were updated: weight-adaptive ones only if not ``dynamic``."""
    return not dynamic if distribution == "weight_adaptive" else dynamic


def sign_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """Returns the shape of Dale's signs: one for each row of a Linear, each kernel of a convolution."""
    own = 1 if len(shape) == 2 else 2
    return (*shape[:own], *(1,) * (len(shape) - own))
