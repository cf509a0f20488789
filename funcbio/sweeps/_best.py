"""The choice of hyper-parameters on some runs of a sweep, for results on the others."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from funcbio import _seeds
from funcbio._checks import is_count, require
from funcbio._seeds import Run, require_one_of
from funcbio.sweeps._given import as_choice
from funcbio.sweeps._trials import FOLD

GOALS = {"min": ("loss", "error", "mse", "mae"), "max": ("accuracy", "acc", "auc", "f1")}
"""What the name of a metric ends with that should be small, and of one that should be large."""


class Best(NamedTuple):
    """Holds the outcome of a choice.

    Attributes:
        members: Numbers of the members that are reported: those at the chosen values that did not choose.
        chosen: Columns by name; see ``SweepResult.chosen``.
    """

    members: list[int]
    chosen: dict[str, list[Any]]


Group = dict[tuple[Any, ...], list[Run]]
"""Runs by the values of the hyper-parameters that are chosen."""


def best(
    table: Mapping[str, Sequence[Any]],
    hyper: Sequence[str],
    metric: str,
    over: Sequence[str],
    *,
    seeds: int | Collection[int] | None,
    folds: int | Collection[int] | None,
    goal: str | None,
    step: int | None,
) -> Best:
    """Computes what ``SweepResult.best`` documents, from the columns of a table."""
    runs = _seeds.runs(table, hyper, metric)
    step, sign = _seeds.resolve_step(runs, step), -1.0 if _goal(metric, goal) == "max" else 1.0
    _seeds.by_seed(runs, step)  # Refuses a seed that stands there twice.
    for name in over:
        require_one_of("hyper-parameters", [each for each in hyper if each != FOLD], over=name)
    require("over", over, "one or more names", bool(over))
    choosing = _choosing(runs, hyper, seeds, folds)
    others = [name for name in hyper if name not in (*over, FOLD)]
    members: list[int] = []
    rows: list[tuple[Any, ...]] = []
    for combination, group in _grouped(runs, hyper, others, over).items():
        at = dict(zip(others, combination, strict=True))
        judges = {values: [run for run in each if run.member in choosing] for values, each in group.items()}
        _require_same_judges(judges, hyper, over, at)
        scores = {values: _score(each, step, sign) for values, each in judges.items()}
        values = min(scores, key=scores.__getitem__)
        reported = [run.member for run in group[values] if run.member not in choosing]
        should = f"run with further seeds or folds for {_named(over, values)}, the best for {at}"
        require("results", "none", should, bool(reported))
        members += reported
        diverged, mean = scores[values]
        rows.append((*combination, *values, len(judges[values]), diverged, sign * mean, _ends(over, values, group)))
    names = [*others, *over, "runs", "diverged", metric, "at_end"]
    return Best(sorted(members), dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))


def _goal(metric: str, goal: str | None) -> str:
    """Returns the goal, by the name of the metric if it is None."""
    by_name = [each for each, ends in GOALS.items() if metric.endswith(ends)]
    should = '"min" or "max"' if by_name else f'"min" or "max", which the name {metric!r} does not say'
    require("goal", goal, should, goal in GOALS or (goal is None and bool(by_name)))
    return by_name[0] if goal is None else goal


def _choosing(runs: Sequence[Run], hyper: Sequence[str], seeds: Any, folds: Any) -> set[int]:
    """Returns the numbers of the members that choose: those of some seeds, or of some folds."""
    if folds is None:
        there = list(dict.fromkeys(run.seed for run in runs))
        chosen = _some("seeds", there, len(there) // 2 if seeds is None else seeds)
        return {run.member for run in runs if run.seed in chosen}
    require("seeds", seeds, "left out with folds", seeds is None)
    require("folds", folds, "left out: the sweep has none", FOLD in hyper)
    place = list(hyper).index(FOLD)
    chosen = _some("folds", list(dict.fromkeys(run.combination[place] for run in runs)), folds)
    return {run.member for run in runs if run.combination[place] in chosen}


def _some(what: str, there: list[Any], chosen: Any) -> set[Any]:
    """Returns the first so many of some seeds or folds, or those that are named; never all of them."""
    require(what, there, "two or more, some to choose and the others for the results", len(there) > 1)
    chosen = as_choice(chosen)
    counted = isinstance(chosen, int)
    should = f"a number of {what}, or some of them"
    require(what, chosen, should, is_count(chosen) or (not counted and isinstance(chosen, Collection)))
    some = there[: int(chosen)] if counted else list(chosen)
    for one in some:
        require_one_of(what, there, **{what: one})
    should = f"some of the {len(there)}, not all: the others are for the results"
    require(what, chosen, should, 0 < len(set(some)) < len(there))
    return set(some)


def _grouped(runs: Sequence[Run], hyper: Sequence[str], others: Sequence[str], over: Sequence[str]) -> dict[Any, Group]:
    """Returns the runs by the other hyper-parameters, folds aside, then by those that are chosen."""
    groups: dict[Any, Group] = {}
    for run in runs:
        at = dict(zip(hyper, run.combination, strict=True))
        group = groups.setdefault(tuple(at[name] for name in others), {})
        group.setdefault(tuple(at[name] for name in over), []).append(run)
    return groups


def _require_same_judges(judges: Group, hyper: Sequence[str], over: Sequence[str], at: Mapping[str, Any]) -> None:
    """Raises ValueError if values would be compared by the means of different seeds or folds."""
    place = list(hyper).index(FOLD) if FOLD in hyper else None
    kinds = {v: {(r.seed, None if place is None else r.combination[place]) for r in each} for v, each in judges.items()}
    every = set().union(*kinds.values())
    for values, there in kinds.items():
        should = f"the same at every value, so that each is run by all of them, {_named(over, values)} too, at {at}"
        require("seeds that choose", sorted(seed for seed, _ in there), should, bool(every) and there == every)


def _score(runs: Sequence[Run], step: int, sign: float) -> tuple[int, float]:
    """Returns how many runs diverged, and the mean of the others, smaller for the better."""
    finite = [run.values[step] for run in runs if math.isfinite(run.values[step])]
    return len(runs) - len(finite), sign * math.fsum(finite) / len(finite) if finite else math.nan


def _ends(over: Sequence[str], values: Sequence[Any], group: Group) -> str:
    """Returns the names of hyper-parameters whose value is the smallest or largest of several that were tried."""
    names = []
    for place, name in enumerate(over):
        tried = {each[place] for each in group}
        numbers = all(isinstance(one, int | float) and not isinstance(one, bool) for one in tried)
        if numbers and len(tried) > 1 and values[place] in (min(tried), max(tried)):
            names.append(name)
    return ", ".join(names)


def _named(over: Sequence[str], values: Sequence[Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in zip(over, values, strict=True))
