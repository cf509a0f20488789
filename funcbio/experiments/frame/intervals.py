"""Means with intervals, tests of paired differences, and the sentence that reads one."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from scipy import stats

from funcbio._seeds import LEVEL, differences, wilcoxon
from funcbio.plot._canvas import count as counted

SIGNIFICANT = 0.05

FEWEST = 3
"""Fewest numbers that get an interval, and a test: of two it would be twelve times as wide as they are apart."""

ROUNDING = 1e-9
"""Share of the largest difference below which others do not differ from it."""


class Interval(NamedTuple):
    """Holds a mean and its 95 % interval; the ends are nan if there are too few numbers.

    Attributes:
        mean: The mean; nan of no numbers.
        low: Lower end.
        high: Upper end.
    """

    mean: float
    low: float
    high: float


def interval(numbers: Sequence[float]) -> Interval:
    """Returns the mean of some numbers and its Student's t interval; nan where there are too few of them.

    Example:
        >>> interval([1.0, 1.0, 1.0])
        Interval(mean=1.0, low=1.0, high=1.0)
    """
    count = len(numbers)
    if count == 0:
        return Interval(math.nan, math.nan, math.nan)
    mean = math.fsum(numbers) / count
    if count < FEWEST:
        return Interval(mean, math.nan, math.nan)
    variance = math.fsum((number - mean) ** 2 for number in numbers) / (count - 1)
    half = float(stats.t.ppf(0.5 + LEVEL / 2, count - 1)) * math.sqrt(variance / count)
    return Interval(mean, mean - half, mean + half)


def paired(bio: Sequence[float], plain: Sequence[float]) -> Interval:
    """Returns the mean difference bio minus plain over the seeds that both were run with, and its interval."""
    return interval(differences(bio, plain))


def p_value(bio: Sequence[float], plain: Sequence[float]) -> float:
    """Returns the p-value of Wilcoxon's signed-rank test of paired numbers; 1 if all are equal, nan if too few."""
    return wilcoxon(differences(bio, plain)) if len(bio) >= FEWEST else math.nan


def adjusted(p_values: Sequence[float]) -> list[float]:
    """Returns p-values after the correction of Benjamini and Hochberg; those that are nan stay so and do not count."""
    present = [value for value in p_values if not math.isnan(value)]
    corrected = iter(stats.false_discovery_control(present).tolist() if present else [])
    return [value if math.isnan(value) else next(corrected) for value in p_values]


def is_significant(p: float | None) -> bool:
    """Returns True if a p-value is small; False of None and nan, which stand for no test."""
    return p is not None and p < SIGNIFICANT


def spell_p(p: float | None) -> str:
    """Writes a p-value; nothing where there was no test.

    Example:
        >>> spell_p(0.2), spell_p(0.0002), spell_p(None)
        ('0.200', '< 0.001', '')
    """
    if p is None or math.isnan(p):
        return ""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def ends_of(ends: Interval | Mapping[str, Any]) -> Interval:
    """Returns an interval from its three numbers by name, where None stands for nan."""
    named = ends._asdict() if isinstance(ends, Interval) else ends
    return Interval(*(math.nan if named[end] is None else named[end] for end in Interval._fields))


def spell(
    ends: Interval | Mapping[str, Any],
    form: str = ".1f",
    *,
    scale: float = 1.0,
    sign: str = "",
    missing: str = "never",
) -> str:
    """Writes an interval as ``mean [low, high]``.

    Args:
        ends: The interval, or its three numbers by name, where None stands for nan.
        form: Format of the numbers.
        scale: A factor for all of them.
        sign: "+" to write the sign of positive numbers, too.
        missing: Text in the place of a mean that is nan; "" writes nan. Ends that are nan are left out.
    """
    mean, low, high = (number * scale for number in ends_of(ends))
    if missing and math.isnan(mean):
        return missing
    mean_text, low_text, high_text = (f"{number:{sign}{form}}" for number in (mean, low, high))
    return mean_text if math.isnan(low) else f"{mean_text} [{low_text}, {high_text}]"


def over(seeds: int) -> str:
    """Describes what stands behind a mean: an interval over some seeds, or none where they are too few.

    Example:
        >>> over(10), over(2)
        ('[95 % interval over 10 seeds]', '(2 seeds: no interval)')
    """
    if seeds < FEWEST:
        return f"({counted(seeds, 'seed')}: no interval)"
    return f"[95 % interval over {counted(seeds, 'seed')}]"


def reading(difference: Interval) -> str:
    """Describes in words a paired difference in accuracy."""
    if math.isnan(difference.low):
        return "too few for an interval"
    if difference.mean != 0.0 and difference.high - difference.low <= ROUNDING * abs(difference.mean):
        return "the same over all of them, which shows no spread to judge it by"
    if difference.low <= 0.0 <= difference.high:
        return "no difference that these seeds can show"
    return "the bio-inspired network is " + ("more accurate" if difference.mean > 0.0 else "less accurate")
