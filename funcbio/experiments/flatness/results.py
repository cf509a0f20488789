"""Results of the measurements: the end of training, equal losses, and differences from the plain network."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from funcbio.experiments.frame.intervals import interval, paired

EQUAL_LOSS = 0.2
"""Training loss at which networks are also compared: one that learns faster is flatter at the same epoch."""

ENDS = ("train_loss", "test_accuracy", "largest", "trace")


def compared(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns one row for each variant; the first run is the plain network.

    Sharpness is compared as a ratio: differences are paired by seed, of logarithms. Runs hold "variant", "lr", and
    every measure as lists by seed.
    """
    rows, plain = [], runs[0]
    for run in runs:
        row: dict[str, Any] = {"variant": run["variant"], "lr": run["lr"]}
        row |= {name: interval([seed[-1] for seed in run[name]])._asdict() for name in ENDS}
        for name in ("largest", "trace"):
            row[f"{name}_at_equal_loss"] = interval(present(at_loss(run, name)))._asdict()
            if run is not plain:
                ends = [[seed[-1] for seed in one[name]] for one in (run, plain)]
                row[f"{name}_ratio"] = ratio(*ends)
                row[f"{name}_ratio_at_equal_loss"] = ratio(at_loss(run, name), at_loss(plain, name))
        rows.append(row)
    return rows


def ratio(one: Sequence[float], plain: Sequence[float]) -> dict[str, float]:
    """Returns the geometric mean of paired ratios and its interval; of the seeds in which both are positive numbers."""
    pairs = [(a, b) for a, b in zip(one, plain, strict=True) if a > 0.0 and b > 0.0]
    logs = paired([math.log(a) for a, _ in pairs], [math.log(b) for _, b in pairs])
    return {name: math.exp(value) for name, value in logs._asdict().items()} | {"seeds": len(pairs)}


def at_loss(run: dict[str, Any], name: str, loss: float = EQUAL_LOSS) -> list[float]:
    """Returns a measure where the training loss first falls to a value, between two measurements on log scales.

    One number for each seed: nan if the loss never falls that far, or the measure is not positive there.
    """
    measures = []
    for losses, values in zip(run["train_loss"], run[name], strict=True):
        after = next((index for index, value in enumerate(losses) if value <= loss), 0)
        if after == 0 or min(values[after - 1 : after + 1]) <= 0.0:
            measures.append(math.nan)
            continue
        x = np.log(losses[after : after - 2 if after > 1 else None : -1])
        y = np.log(values[after : after - 2 if after > 1 else None : -1])
        measures.append(float(np.exp(np.interp(math.log(loss), x, y))))
    return measures


def present(numbers: Sequence[float]) -> list[float]:
    """Returns the numbers that are not nan."""
    return [number for number in numbers if not math.isnan(number)]
