"""Statistics over members: means with intervals over seeds, and comparisons paired by seed."""

import math
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from funcbio._optional import import_extra
from funcbio.base import brief, is_among, listed

if TYPE_CHECKING:
    from numpy import ndarray
    from pandas import DataFrame

LEVEL = 0.95
RESAMPLES = 9999

ROUNDINGS = 4
"""Units in the last place of the largest value by which rounding may tell two differences apart."""

extra = partial(import_extra, extra="sweep")

BOOTSTRAP_NUMBERS = 1_000_000
"""Numbers that a bootstrap holds at once: a few megabytes, whatever the size of the sweep."""


class Run(NamedTuple):
    """Holds one member's values of one metric.

    Attributes:
        member: Its number.
        seed: Its seed.
        combination: Its hyper-parameters, in the order of their columns.
        values: The metric by step.
    """

    member: int
    seed: int
    combination: tuple[Any, ...]
    values: dict[int, float]


def require_one_of(what: str, choices: Collection[Any], **parameter: Any) -> None:
    """Raises ValueError if a parameter is not one of the choices; the message names them."""
    for name, value in parameter.items():
        if not is_among(value, choices):
            names = listed(map(repr, choices)) or "(there are none)"
            raise ValueError(f"{name} should be one of the {what} {names}; found {brief(value)}")


def runs(table: Mapping[str, Sequence[Any]], hyper: Sequence[str], metric: str) -> list[Run]:
    """Gathers the rows of each member.

    Args:
        table: The columns, as ``SweepResult`` holds them.
        hyper: Names of the columns of hyper-parameters.
        metric: Name of a column behind "step".

    Returns:
        One run for every member, in the table's order.

    Raises:
        ValueError: If there is no such metric.
    """
    names = list(table)
    require_one_of("metrics", names[names.index("step") + 1 :], metric=metric)
    by_member: dict[int, Run] = {}
    columns = [table[name] for name in ("member", "seed", "step", metric, *hyper)]
    for member, seed, step, value, *combination in zip(*columns, strict=True):
        if member not in by_member:
            by_member[member] = Run(member, seed, tuple(combination), {})
        by_member[member].values[step] = value
    return list(by_member.values())


def resolve_step(members: Sequence[Run], step: int | None) -> int:
    """Returns the step, the last one for None; raises ValueError if a member lacks it."""
    steps = sorted({each for run in members for each in run.values})
    step = steps[-1] if step is None and steps else step
    require_one_of("steps", steps, step=step)
    missing = [run.member for run in members if step not in run.values]
    if step is None or missing:
        raise ValueError(
            f"step should be one that every member has; found {step}, which members {listed(missing)} lack"
        )
    return step


def by_seed(members: Sequence[Run], step: int | None) -> dict[tuple[Any, ...], dict[int, float]]:
    """Returns the values at a step by combination of hyper-parameters, then by seed.

    Raises:
        ValueError: If a combination has a seed twice: an interval over seeds would count it as two.
    """
    step, groups = resolve_step(members, step), {}
    for run in members:
        group = groups.setdefault(run.combination, {})
        if run.seed in group:
            at = f"seed {run.seed} twice at {run.combination}" if run.combination else f"seed {run.seed} twice"
            raise ValueError(f"seeds should be distinct in each combination of hyper-parameters; found {at}")
        group[run.seed] = run.values[step]
    return groups


def intervals(values: "ndarray") -> "ndarray":
    """Returns the mean of each column and its 95 % percentile bootstrap interval, over the finite numbers.

    The generator is fixed: the same numbers give the same interval on every call.

    Args:
        values: Shape ``(seeds, columns)``.

    Returns:
        Mean, low and high: shape ``(3, columns)``. All are nan where no number is finite; the ends are nan where only
        one is, and equal where all are the same.

    Raises:
        ImportError: If scipy is missing.

    Example:
        >>> intervals(torch.tensor([[1.0, 4.0], [1.0, float("nan")]]).numpy()).tolist()
        [[1.0, 4.0], [1.0, nan], [1.0, nan]]
    """
    np = extra("numpy")
    values = np.asarray(values, dtype=np.float64)
    result = np.full((3, values.shape[1]), np.nan)
    # Most columns miss the same seeds, so few bootstraps serve them all.
    patterns, which = np.unique(np.isfinite(values), axis=1, return_inverse=True)
    for index, rows in enumerate(patterns.T):
        columns = which.ravel() == index
        if rows.any():
            result[:, columns] = _bootstrap(values[rows][:, columns])
    return result


def _bootstrap(values: "ndarray") -> "ndarray":
    """Computes ``intervals`` of finite numbers only, at least one in each column."""
    np, count = extra("numpy"), len(values)
    result = np.full((3, values.shape[1]), np.nan)
    with np.errstate(all="ignore"):  # Sums of finite numbers may overflow.
        result[0] = values.mean(axis=0)
        if count > 1:
            bootstrap = extra("scipy.stats").bootstrap(
                (values,),
                np.mean,
                axis=0,
                n_resamples=RESAMPLES,
                batch=max(1, BOOTSTRAP_NUMBERS // values.size),
                confidence_level=LEVEL,
                method="percentile",
                rng=np.random.default_rng(0),
            )
            result[1:] = bootstrap.confidence_interval
    # The mean of equal numbers may differ from them in the last digit.
    equal = (values == values[0]).all(axis=0)
    result[: 3 if count > 1 else 1, equal] = values[0, equal]
    return result


def _interval(numbers: Sequence[float]) -> tuple[float, float, float]:
    return tuple(intervals(extra("numpy").array(numbers, dtype=float)[:, None])[:, 0].tolist())


def summary(
    table: Mapping[str, Sequence[Any]], hyper: Sequence[str], metric: str, step: int | None = None
) -> "DataFrame":
    """Computes what ``SweepResult.summary`` documents, from the columns of a table."""
    rows = []
    for combination, group in by_seed(runs(table, hyper, metric), step).items():
        numbers = list(group.values())
        diverged = sum(not math.isfinite(number) for number in numbers)
        rows.append((*combination, len(numbers), diverged, *_interval(numbers)))
    return extra("pandas").DataFrame(rows, columns=[*hyper, "members", "diverged", "mean", "low", "high"])


def compare(
    table: Mapping[str, Sequence[Any]],
    hyper: Sequence[str],
    metric: str,
    by: str,
    baseline: Any,
    step: int | None = None,
) -> "DataFrame":
    """Computes what ``SweepResult.compare`` documents, from the columns of a table."""
    groups = by_seed(runs(table, hyper, metric), step)
    require_one_of("hyper-parameters", hyper, by=by)
    place = list(hyper).index(by)
    require_one_of(f"values of {by}", dict.fromkeys(combination[place] for combination in groups), baseline=baseline)
    rows = []
    for combination, group in groups.items():
        value, others = combination[place], combination[:place] + combination[place + 1 :]
        if value != baseline:
            start = groups.get((*combination[:place], baseline, *combination[place + 1 :]), {})
            common = [seed for seed in group if seed in start]
            if not common:
                at = dict(zip(hyper, combination, strict=True))
                raise ValueError(f"baseline should have seeds in common with {at}; found none at {baseline!r}")
            rows.append((*others, value, baseline, *_paired([(group[seed], start[seed]) for seed in common])))
    others = [name for name in hyper if name != by]
    columns = [*others, by, "baseline", "pairs", "diverged", "difference", "low", "high", "p_value"]
    return extra("pandas").DataFrame(rows, columns=columns)


def _paired(pairs: Sequence[tuple[float, float]]) -> tuple[float, ...]:
    """Returns pairs used, pairs left out, mean difference, its interval and p-value."""
    finite = [(value, start) for value, start in pairs if math.isfinite(value) and math.isfinite(start)]
    used = differences([value for value, _ in finite], [start for _, start in finite])
    return len(used), len(pairs) - len(used), *_interval(used), wilcoxon(used)


def differences(values: Sequence[float], starts: Sequence[float]) -> list[float]:
    """Returns paired differences; those that only rounding tells apart, or from zero, are one number.

    Sweeps measure in float32, where a share of right answers is a little off: 101/112 - 100/112 and 2/112 - 1/112 are
    the same number of images.
    """
    found = [value - start for value, start in zip(values, starts, strict=True)]
    step = ROUNDINGS * _resolution([*values, *starts])
    size, sizes = 0.0, dict[float, float]()
    for number in sorted(abs(number) for number in found if math.isfinite(number)):
        size = number if number - size > step else size
        sizes[number] = size
    return [math.copysign(sizes.get(abs(number), abs(number)), number) for number in found]


def _resolution(values: Sequence[float]) -> float:
    """Returns the distance of the largest value from the next one, in the type that the values come from."""
    finite = [value for value in values if math.isfinite(value)]
    largest = max(map(abs, finite), default=0.0)
    exact = torch.tensor(finite, dtype=torch.float64)
    kind = torch.float32 if bool((exact.float().double() == exact).all()) else torch.float64
    return largest * torch.finfo(kind).eps


def wilcoxon(numbers: Sequence[float]) -> float:
    """Returns the p-value of Wilcoxon's signed-rank test of differences; 1 if all are zero, nan if there are none."""
    if not numbers:
        return math.nan
    if not any(numbers):  # Wilcoxon's test leaves out zeros: no difference would remain.
        return 1.0
    return float(extra("scipy.stats").wilcoxon(numbers).pvalue)
