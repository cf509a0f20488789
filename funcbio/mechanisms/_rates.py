"""The ten distributions of the rate factors, each of mean 1 before the clamp."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from funcbio import rng
from funcbio._checks import LARGEST, NOT_NEGATIVE, POSITIVE, Limit, is_real, require_key, require_within, shown
from funcbio.base import Key, Number, at_least, check_option, clamp
from funcbio.engine._masks import number_or
from funcbio.engine._statistics import mean
from funcbio.mechanisms._release import VERSION, release_samplers
from funcbio.tensors._arithmetic import exact, number, rounded, widened
from funcbio.tensors._sharding import draw_like

NU, MINIMUM, MAXIMUM = 0.16, 0.5, 2.0
"""Default spread of the rate factors, and the default clamp."""
RANGE: dict[str, Limit] = {"minimum": NOT_NEGATIVE, "maximum": POSITIVE}
"""Limits of the clamp; the first is less than the second."""


def spread(unit: Tensor, nu: Number) -> Tensor:
    """Stretches numbers on [0, 1) to [1 - nu, 1 + nu): the building block of most distributions."""
    return 1.0 + nu * (2.0 * unit - 1.0)


def layer_nu(nu: Number, depth: Number) -> Number:
    """Returns the spread of a layer at relative depth ``depth``: full at the input, half towards the output."""
    return nu * (1.0 - 0.5 * depth)


def weight_nu(weight: Tensor, nu: Number, average: Tensor) -> Tensor:
    """Returns the spread of every weight: larger for weights under the layer's mean magnitude, smaller over it."""
    relative = weight.abs() / torch.where(average > 0.0, average, 1.0)
    return nu * (2.0 - relative).clamp(0.5, 1.5)


def activity_nu(activity: Tensor, nu: Number, average: Tensor) -> Tensor:
    """Returns the spread of every unit's row: smaller for units more active than the mean, larger for silent ones."""
    relative = torch.where(average > 0.0, activity / torch.where(average > 0.0, average, 1.0), 1.0)
    factor = (1.0 + 0.1 * (relative - 1.0)).clamp(0.8, 1.2)
    return nu * (2.0 - factor)


def limited(rate: Tensor, minimum: Number, maximum: Number) -> Tensor:
    """Clamps new rates; those that are nan, because a weight is or a spread overflowed, become 1."""
    return clamp(number_or(rate, 1.0), minimum, maximum)


class _Layer(NamedTuple):
    """Holds the inputs of a sampler; the weight is in the type to compute in, the spread as exact as it was given."""

    key: Key
    stream: str
    weight: Tensor
    nu: Number
    depth: Number

    def number(self, value: Number) -> Tensor:
        return number(value, self.weight.dtype, self.weight.device)

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
    return spread(layer.uniform(), layer.number(layer.nu))


def _normal(layer: _Layer) -> Tensor:
    return 1.0 + layer.number(layer.nu) * layer.normal()


def _lognormal(layer: _Layer) -> Tensor:
    # From a spread of 100 on, all factors vanish; a larger one would leave the range of the type.
    nu = layer.nu.clamp_max(100.0) if isinstance(layer.nu, Tensor) else min(layer.nu, 100.0)
    return torch.exp(layer.number(nu) * layer.normal() - layer.number(0.5 * nu**2))


def _gamma(layer: _Layer) -> Tensor:
    return layer.number(layer.nu) * layer.draw(rng.gamma, 1.0 / layer.nu)


def _beta(layer: _Layer) -> Tensor:
    return spread(layer.draw(rng.beta, 1.0 / layer.nu, 1.0 / layer.nu), layer.number(layer.nu))


def _layer_adaptive(layer: _Layer) -> Tensor:
    return spread(layer.uniform(), layer.number(layer_nu(layer.nu, layer.depth)))


def _weight_adaptive(layer: _Layer) -> Tensor:
    nu = weight_nu(layer.weight, layer.number(layer.nu), mean(layer.weight, torch.abs))
    return spread(layer.uniform(), nu)


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
VARIANTS = {"default": SAMPLERS, VERSION: release_samplers(SAMPLERS)}


def sample_rates(
    key: Key,
    weight: Tensor,
    *,
    distribution: str = "uniform",
    nu: Number = NU,
    minimum: Number = MINIMUM,
    maximum: Number = MAXIMUM,
    depth: float = 0.0,
    variant: str = "default",
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
    | weight_adaptive | uniform with $\nu \, \mathrm{clamp}(2 - \rho, 1/2, 3/2)$ |

    where $\rho = |w| / \overline{|w|}$ is a weight relative to the layer's mean.

    The variant "0.0.5" is what that release of ``bio_transformations`` drew: gamma is one more, layer_adaptive is
    uniform, and weight_adaptive is 1 until the first update.

    Args:
        key: The key.
        weight: The layer's weights; give the shape, the type and, for weight_adaptive, the spread.
        distribution: A name from the table.
        nu: $\nu > 0$, a number or a 0-d tensor.
        minimum: Lower clamp.
        maximum: Upper clamp.
        depth: $l / L$, for layer_adaptive.
        variant: "default" or "0.0.5".
        stream: Name of the stream of numbers; one for each layer.

    Returns:
        Tensor with the shape and type of ``weight``.

    Raises:
        ValueError: If the distribution is not one of the ten, or the variant is unknown.

    Example:
        >>> sample_rates(key(0), torch.ones(2, 3), distribution="baseline")
        tensor([[1., 1., 1.],
                [1., 1., 1.]])

    References:
        Hofmann et al., Nature Communications 16, 5112 (2025).
    """
    check_option("distribution", distribution, SAMPLERS)
    check_option("variant", variant, VARIANTS)
    hyper = {"nu": nu, "minimum": minimum, "maximum": maximum, "depth": depth}
    require_within({"nu": POSITIVE, **RANGE}, hyper)
    # A smaller spread than this is none in any type, and 1 / nu must not overflow.
    nu = at_least(exact(nu), 1 / LARGEST)
    require_key(key)
    if not is_real(weight) or weight.device != key.device:
        raise ValueError(
            f"weight should hold real floating-point numbers on {key.device}, as key; found {shown(weight)}"
        )
    layer = _Layer(key, stream, widened(weight.detach()), nu, exact(depth))
    rates = limited(VARIANTS[variant][distribution](layer), layer.number(minimum), layer.number(maximum))
    return rounded(rates, weight.dtype, finite=True)
