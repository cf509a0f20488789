"""The ten distributions of the rate factors, each of mean 1 before the clamp."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from funcbio import rng
from funcbio.base import Key, Number, clamp
from funcbio.sharding import draw_like
from funcbio.statistics import mean

NU, MINIMUM, MAXIMUM = 0.16, 0.5, 2.0
"""Default spread of the rate factors, and the default clamp."""


def spread(unit: Tensor, nu: Number) -> Tensor:
    """Stretches numbers on [0, 1) to [1 - nu, 1 + nu): the building block of most distributions."""
    return 1.0 + nu * (2.0 * unit - 1.0)


def layer_nu(nu: Number, depth: float) -> Number:
    """Spread of a layer at relative depth ``depth`` = index / total: full at the input, half towards the output."""
    return nu * (1.0 - 0.5 * depth)


def weight_nu(weight: Tensor, nu: Number) -> Tensor:
    """Spread of every weight: larger for weights under the layer's mean magnitude, smaller for those over it."""
    magnitude = weight.abs()
    average = mean(magnitude)
    relative = magnitude / torch.where(average > 0.0, average, 1.0)
    return nu * (2.0 - relative).clamp(0.5, 1.5)


def activity_nu(activity: Tensor, nu: Number) -> Tensor:
    """Spread of every unit's row: smaller for units more active than the layer's mean, larger for silent ones."""
    count = activity.to(torch.float32)
    average = mean(count)
    relative = torch.where(average > 0.0, count / torch.where(average > 0.0, average, 1.0), 1.0)
    factor = (1.0 + 0.1 * (relative - 1.0)).clamp(0.8, 1.2)
    return nu * (2.0 - factor)


class _Layer(NamedTuple):
    """What a sampler may look at."""

    key: Key
    stream: str
    weight: Tensor
    nu: Number
    depth: float

    def uniform(self) -> Tensor:
        return self.draw(rng.uniform)

    def normal(self) -> Tensor:
        return self.draw(rng.normal)

    def draw(self, sampler: Callable[..., Tensor], *hyper: Number) -> Tensor:
        fixed = partial(sampler, self.key, *hyper, stream=self.stream, dtype=self.weight.dtype)
        return draw_like(fixed, self.weight)


def _baseline(layer: _Layer) -> Tensor:
    return torch.ones_like(layer.weight)


def _uniform(layer: _Layer) -> Tensor:
    return spread(layer.uniform(), layer.nu)


def _normal(layer: _Layer) -> Tensor:
    return 1.0 + layer.nu * layer.normal()


def _lognormal(layer: _Layer) -> Tensor:
    return torch.exp(layer.nu * layer.normal() - 0.5 * layer.nu**2)


def _gamma(layer: _Layer) -> Tensor:
    return layer.nu * layer.draw(rng.gamma, 1.0 / layer.nu)


def _beta(layer: _Layer) -> Tensor:
    return spread(layer.draw(rng.beta, 1.0 / layer.nu, 1.0 / layer.nu), layer.nu)


def _layer_adaptive(layer: _Layer) -> Tensor:
    return spread(layer.uniform(), layer_nu(layer.nu, layer.depth))


def _weight_adaptive(layer: _Layer) -> Tensor:
    return spread(layer.uniform(), weight_nu(layer.weight, layer.nu))


SAMPLERS: dict[str, Callable[[_Layer], Tensor]] = {
    "baseline": _baseline,
    "uniform": _uniform,
    "normal": _normal,
    "lognormal": _lognormal,
    "gamma": _gamma,
    "beta": _beta,
    "layer_adaptive": _layer_adaptive,
    "weight_adaptive": _weight_adaptive,
    "temporal": _uniform,
    "activity": _baseline,
}


def sample_rates(
    key: Key,
    weight: Tensor,
    *,
    distribution: str = "uniform",
    nu: Number = NU,
    minimum: Number = MINIMUM,
    maximum: Number = MAXIMUM,
    depth: float = 0.0,
    stream: str = "rates",
) -> Tensor:
    r"""Draws the rate factors of one layer.

    With spread $\nu$, before the clamp to ``[minimum, maximum]``, a factor is distributed as

    | distribution | draw |
    |---|---|
    | baseline, activity | $1$ |
    | uniform, temporal | $U(1 - \nu, 1 + \nu)$ |
    | normal | $N(1, \nu^2)$ |
    | lognormal | $\exp N(-\nu^2 / 2, \nu^2)$ |
    | gamma | $\Gamma(1/\nu)$ with rate $1/\nu$ |
    | beta | $1 + \nu (2B - 1)$, $B \sim \mathrm{Beta}(1/\nu, 1/\nu)$ |
    | layer_adaptive | uniform with $\nu (1 - l / 2L)$ in layer $l$ of $L$ |
    | weight_adaptive | uniform with $\nu \, \mathrm{clamp}(2 - |w| / \overline{|w|}, 1/2, 3/2)$ |

    Args:
        key: The key.
        weight: The layer's weights; give the shape, the type and, for weight_adaptive, the spread.
        distribution: A name from the table.
        nu: $\nu > 0$, a number or a 0-d tensor.
        minimum: Lower clamp.
        maximum: Upper clamp.
        depth: $l / L$, for layer_adaptive.
        stream: Name of the stream of numbers; one for each layer.

    Returns:
        Tensor with the shape and type of ``weight``.

    Raises:
        ValueError: If the distribution is not one of the ten.

    Example:
        >>> sample_rates(key(0), torch.ones(2, 3), distribution="baseline")
        tensor([[1., 1., 1.],
                [1., 1., 1.]])

    References:
        Hofmann et al., Nature Communications 16, 5112 (2025).
    """
    if distribution not in SAMPLERS:
        raise ValueError(f"distribution should be one of {', '.join(SAMPLERS)}; found {distribution!r}")
    rates = SAMPLERS[distribution](_Layer(key, stream, weight.detach(), nu, depth))
    return clamp(rates.to(weight.dtype), minimum, maximum)
