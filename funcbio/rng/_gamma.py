"""Gamma and beta, without loops of data-dependent length."""

import torch
from torch import Tensor

from funcbio._checks import brief, require_dtype, require_key, require_numbers
from funcbio.base import Key, Number
from funcbio.rng._keys import require_stream
from funcbio.rng._samplers import normal, uniform
from funcbio.rng._streams import Shape
from funcbio.tensors._arithmetic import exact, number, power


def gamma(
    key: Key,
    concentration: Number,
    shape: Shape = (),
    *,
    dtype: torch.dtype = torch.float32,
    stream: str = "",
    offset: int = 0,
    proposals: int = 6,
) -> Tensor:
    """Draws from the gamma distribution of rate 1, in a fixed number of steps.

    The first of ``proposals`` candidates that the method of Marsaglia and Tsang accepts is taken. Each is
    accepted with probability 0.95 or more, so fewer than 1 in 10^7 weights falls back to the last candidate.

    Args:
        key: The key; the same key gives the same numbers.
        concentration: Shape parameter, > 0, a number or a 0-d tensor.
        shape: Shape of the result.
        dtype: Any floating type.
        stream: Name of an independent stream of numbers under the same key.
        offset: Number of elements of the stream to skip.
        proposals: Number of candidates.

    Returns:
        Positive tensor on the device of ``key``; 0 where a number is too small for the type.

    Raises:
        ValueError: If ``concentration`` is no number > 0.

    Example:
        >>> round(float(gamma(key(0), 4.0, (10_000,)).mean()), 1)
        4.0

    References:
        Marsaglia and Tsang, "A simple method for generating gamma variables", ACM TOMS 26, 2000.
    """
    require_key(key)
    require_dtype(dtype)
    require_stream(stream)
    _require_positive(concentration=concentration)
    work = torch.float64 if dtype == torch.float64 else torch.float32
    concentration = number(concentration, work, key.device)
    # Under 1, draw at one more and shrink by a uniform's power: Gamma(a) = Gamma(a + 1) U^(1/a).
    small = concentration < 1.0
    d = torch.where(small, concentration + 1.0, concentration) - 1.0 / 3.0
    result = torch.ones((), dtype=work, device=key.device)
    for i in reversed(range(proposals)):
        x = normal(key, shape, dtype=work, stream=f"{stream}/normal {i}", offset=offset)
        u = 1.0 - uniform(key, shape, dtype=work, stream=f"{stream}/uniform {i}", offset=offset)
        v = (1.0 + x / torch.sqrt(9.0 * d)) ** 3
        safe = v.clamp_min(torch.finfo(work).tiny)
        accepted = (v > 0.0) & (torch.log(u) < 0.5 * x * x + d * (1.0 - v + torch.log(safe)))
        result = torch.where(accepted | (i == proposals - 1), safe, result)
    u = 1.0 - uniform(key, shape, dtype=work, stream=f"{stream}/boost", offset=offset)
    shrink = torch.where(small, power(u, 1.0 / concentration), 1.0)
    return (d * result * shrink).to(dtype)


def beta(
    key: Key,
    first: Number,
    second: Number,
    shape: Shape = (),
    *,
    dtype: torch.dtype = torch.float32,
    stream: str = "",
    offset: int = 0,
) -> Tensor:
    """Draws from the beta distribution, as a ratio of gammas.

    Args:
        key: The key; the same key gives the same numbers.
        first: First shape parameter, > 0, a number or a 0-d tensor.
        second: Second shape parameter, > 0.
        shape: Shape of the result.
        dtype: Any floating type.
        stream: Name of an independent stream of numbers under the same key.
        offset: Number of elements of the stream to skip.

    Returns:
        Tensor with values in [0, 1] on the device of ``key``.

    Raises:
        ValueError: If a shape parameter is no number > 0.

    Example:
        >>> bool((beta(key(0), 2.0, 2.0, (100,)) <= 1).all())
        True
    """
    require_key(key)
    require_dtype(dtype)
    require_stream(stream)
    _require_positive(first=first, second=second)
    work = torch.float64 if dtype == torch.float64 else torch.float32
    x = gamma(key, first, shape, dtype=work, stream=f"{stream}/first", offset=offset)
    y = gamma(key, second, shape, dtype=work, stream=f"{stream}/second", offset=offset)
    total = x + y
    # Small parameters may draw two numbers that are 0 in the type: the result is then 1 or 0, by a coin.
    first, second = exact(first), exact(second)
    share = number(first / (first + second), work, key.device)
    coin = uniform(key, shape, dtype=work, stream=f"{stream}/coin", offset=offset) < share
    return torch.where(total > 0.0, x / torch.where(total > 0.0, total, 1.0), coin).to(dtype)


def _require_positive(**hyper: object) -> None:
    require_numbers(**hyper)
    for name, value in hyper.items():
        if not isinstance(value, Tensor) and not value > 0:  # pyright: ignore[reportOperatorIssue]
            raise ValueError(f"{name} should be a number > 0; found {brief(value)}")
