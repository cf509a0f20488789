"""Laws: the distributions that turn random words into numbers."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from funcbio.rng._threefry import constants


class Law(NamedTuple):
    """Describes a distribution, by functions from the generator's words to numbers.

    Attributes:
        single: Makes numbers from one word, as precise as the type in its second argument, for all but float64.
        double: Makes numbers in float64 from the two words of a counter.
        outputs: How many numbers ``single`` and ``double`` make.
    """

    single: Callable[[Tensor, torch.dtype], tuple[Tensor, ...]]
    double: Callable[[Tensor, Tensor], tuple[Tensor, ...]]
    outputs: tuple[int, int]


def lanes(law: Law, dtype: torch.dtype) -> int:
    """Counts the numbers that a counter makes."""
    return law.outputs[1] if dtype == torch.float64 else 2 * law.outputs[0]


def lane_list(law: Law, first: Tensor, second: Tensor, dtype: torch.dtype) -> list[Tensor]:
    """Returns the numbers of some counters, lane by lane, each shaped like ``first``."""
    if dtype == torch.float64:
        return list(law.double(first, second))
    return [number for pair in zip(law.single(first, dtype), law.single(second, dtype), strict=True) for number in pair]


def laid_out(law: Law, first: Tensor, second: Tensor, dtype: torch.dtype) -> Tensor:
    """Returns the numbers of some blocks end to end, in the order of ``lane_list``; in float32 or better."""
    if dtype == torch.float64:
        numbers = [number.unsqueeze(-2) for number in law.double(first, second)]
    else:  # Both words at once, for half the operations.
        numbers = law.single(torch.stack((first, second), -2), dtype)
    return (numbers[0] if len(numbers) == 1 else torch.cat(numbers, -2)).flatten()


def _top(word: Tensor, bits: int) -> Tensor:
    operand = constants()
    return torch.bitwise_right_shift(word, operand(32 - bits)) & operand((1 << bits) - 1)


def _fraction(word: Tensor, dtype: torch.dtype) -> tuple[Tensor]:
    # A uniform in half precision keeps as many bits as the type holds: rounding up would reach 1.
    bits = min(24, 1 - round(math.log2(torch.finfo(dtype).eps)))
    return (_top(word, bits).to(torch.float32) * constants(torch.float32)(2.0**-bits),)


def _fraction64(first: Tensor, second: Tensor) -> tuple[Tensor]:
    return ((_top(first, 27).to(torch.float64) * 2.0**26 + _top(second, 26).to(torch.float64)) * 2.0**-53,)


SINE = (1.57079629, -0.645963360, 0.0796884805, -0.00467222791, 0.000150820557)
COSINE = (0.999999953, -1.23369821, 0.253650745, -0.0208106275, 0.000858190620)
"""Powers of x^2 in sin(x pi/2) / x and cos(x pi/2) on [-1, 1], to 5e-8: torch's own functions take twice as long."""


def box_muller(radius: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
    """Makes two independent standard normal numbers from two that are uniform on (-1, 1) and not 0.

    The first gives the radius and, by its sign, one half of the circle; the second the angle within that half.
    """
    length = radius.abs().log_().mul_(constants(radius.dtype)(-2.0)).sqrt_().copysign_(radius)
    square = angle * angle
    return _polynomial(square, SINE).mul_(angle).mul_(length), _polynomial(square, COSINE).mul_(length)


def _polynomial(x: Tensor, coefficients: tuple[float, ...]) -> Tensor:
    operand = constants(x.dtype)
    result = x * operand(coefficients[-1])
    for coefficient in coefficients[-2:0:-1]:
        result = result.add_(operand(coefficient)).mul_(x)
    return result.add_(operand(coefficients[0]))


ANGLE = (1 << 11) - 1  # Bits for the angle: that many directions have all the moments of a circle up to order 2047.


def _normals(word: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    del dtype
    whole, operand = constants(), constants(torch.float32)
    radius = (word & whole(~ANGLE)).to(torch.float32).add_(operand(2.0**10)).mul_(operand(2.0**-31))
    angle = (word & whole(ANGLE)).to(torch.float32).sub_(operand(1023.5)).mul_(operand(2.0**-10))
    return box_muller(radius, angle)


def _normals64(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    return box_muller((first.to(torch.float64) + 0.5) * 2.0**-31, (second.to(torch.float64) + 0.5) * 2.0**-31)


UNIFORM = Law(_fraction, _fraction64, (1, 1))
"""Uniform on [0, 1), with 24 random bits, 53 in float64."""
NORMAL = Law(_normals, _normals64, (2, 2))
"""Standard normal: 21 bits for the radius, which reaches 5.396, and 11 for the angle; 32 bits for each in float64."""
REACH = 6.67
"""Bound on the magnitude of normal numbers, which reach 6.660 in float64."""
