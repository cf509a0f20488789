"""Results by block of tasks: accuracy, the first and last fifth, and differences from plain training."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from funcbio.experiments.frame.files import rounded
from funcbio.experiments.frame.intervals import adjusted, interval, p_value, paired
from funcbio.experiments.plasticity.methods import PLAIN, method_named
from funcbio.experiments.plasticity.settings import Settings

SHARE = 5
"""The first and the last of this many parts of the tasks are compared."""


def summary(settings: Settings, about: dict[str, Any], measured: dict[str, Tensor]) -> dict[str, Any]:
    """Makes the entry of one run from the result of ``train``: lists by seed, of blocks of tasks."""
    accuracy = measured["accuracy"]
    part = max(1, settings.tasks // SHARE)
    blocks = accuracy.unflatten(1, (settings.blocks, -1)).mean(dim=2)
    lists = {name: rounded(values.tolist()) for name, values in ({**measured, "accuracy": blocks}).items()}
    windows = {"all": accuracy, "first": accuracy[:, :part], "last": accuracy[:, -part:]}
    means = {name: rounded(window.mean(dim=1).tolist()) for name, window in windows.items()}
    return {**about, "seeds": list(range(settings.seeds)), "blocks": lists, "windows": means}


def compared(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Makes one row for each run: intervals of its windows, and the paired difference from plain training in the last.

    "against" is the difference from the method that it adds to. "p" is of one comparison, "q" adjusted for all that
    are made (Benjamini and Hochberg).
    """
    rows = []
    for run in runs:
        windows = run["windows"]
        row = {name: run[name] for name in ("benchmark", "optimizer", "method", "numbers")}
        row |= {name: interval(numbers)._asdict() for name, numbers in windows.items()}
        row["lost"] = paired(windows["last"], windows["first"])._asdict()
        if run["method"] != PLAIN:
            plain = beside(runs, run, PLAIN)["windows"]["last"]
            row["against_plain"] = paired(windows["last"], plain)._asdict()
            row["p"] = p_value(windows["last"], plain)
        other = method_named(run["method"]).beside
        if other:
            row["against"] = {"method": other, **_difference(windows, beside(runs, run, other)["windows"])}
        rows.append(row)
    tests = [test for row in rows for test in (row, row.get("against", {})) if "p" in test]
    for test, q in zip(tests, adjusted([test["p"] for test in tests]), strict=True):
        test["q"] = q
    return rows


def beside(runs: Sequence[dict[str, Any]], run: dict[str, Any], method: str) -> dict[str, Any]:
    """Returns the run of another method with the same benchmark and optimizer."""
    same = ("benchmark", "optimizer")
    return next(one for one in runs if one["method"] == method and all(one[name] == run[name] for name in same))


def _difference(windows: dict[str, Any], others: dict[str, Any]) -> dict[str, Any]:
    intervals: dict[str, Any] = {name: paired(windows[name], others[name])._asdict() for name in ("all", "last")}
    return intervals | {"p": p_value(windows["last"], others["last"])}
