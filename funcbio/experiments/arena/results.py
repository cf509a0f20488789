"""Results by method: means over the whole run, its first and last fifth, and differences from two baselines."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from funcbio.experiments.arena.methods import NORM_DECAY, PLAIN
from funcbio.experiments.frame.intervals import adjusted, interval, p_value, paired

SHARE = 5
"""The first and the last of this many parts of a run are compared."""

BASELINES = {"plain": PLAIN, "norm": NORM_DECAY}
"""Methods that all others are compared with, by the name of the difference."""

PLACE = ("data", "task", "optimizer")
"""What two runs have in common that can be compared."""

Run = Mapping[str, Any]


def windows(run: Run) -> dict[str, list[float]]:
    """Returns the means of each seed over the whole run, its first and its last fifth."""
    size = max(1, len(run["values"][0]) // SHARE)
    parts = {"all": slice(None), "first": slice(size), "last": slice(-size, None)}
    return {name: [_mean(seed[part]) for seed in run["values"]] for name, part in parts.items()}


def _mean(numbers: Sequence[float | None]) -> float:
    """Returns a mean; nan if a number is missing, as a file holds it of a member that diverged."""
    known = [number for number in numbers if number is not None]
    return math.fsum(known) / len(known) if len(known) == len(numbers) else math.nan


def compared(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Makes a row for each run: intervals of its windows, and paired differences from the baselines over all steps.

    "p" is of one comparison by Wilcoxon's test, "q" adjusted for all in the list (Benjamini and Hochberg).
    """
    rows = [_row(runs, run) for run in runs]
    tests: dict[Any, list[dict[str, Any]]] = {}
    for row in rows:
        for name, method in BASELINES.items():
            if name in row:  # The baselines meet twice, which is one test.
                pair = (*(row[part] for part in PLACE), frozenset((row["method"], method)))
                tests.setdefault(pair, []).append(row[name])
    for same, q in zip(tests.values(), adjusted([one[0]["p"] for one in tests.values()]), strict=True):
        for test in same:
            test["q"] = q
    return rows


def _row(runs: Sequence[Run], run: Run) -> dict[str, Any]:
    means = windows(run)
    row: dict[str, Any] = {name: run[name] for name in (*PLACE, "method", "best", "at_limit")}
    row |= {name: interval(values)._asdict() for name, values in means.items()}
    row["change"] = paired(means["last"], means["first"])._asdict()
    row["diverged"] = sum(map(math.isnan, means["all"]))
    for name, method in BASELINES.items():
        other = beside(runs, run, method)
        if other and method != run["method"]:
            row[name] = difference(run, other)
    return row


def beside(runs: Sequence[Run], run: Run, method: str) -> Run | None:
    """Returns the run of another method with the same data, tasks and optimizer; None if there is none."""
    return next((one for one in runs if one["method"] == method and all(one[n] == run[n] for n in PLACE)), None)


def difference(run: Run, other: Run) -> dict[str, Any]:
    """Returns the paired difference of two runs over all steps and their seeds, with its interval and p-value."""
    one, two = windows(run)["all"], windows(other)["all"]
    pairs = [(a, b) for a, b in zip(one, two, strict=True) if not math.isnan(a - b)]
    mine, others = [a for a, _ in pairs], [b for _, b in pairs]
    return {**paired(mine, others)._asdict(), "p": p_value(mine, others)}
