"""The search for every method's one number, on seeds that the results do not use."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from funcbio.experiments.files import write_json
from funcbio.experiments.kept import kept, numbers_of, versions
from funcbio.experiments.plasticity.methods import BENCHMARKS, OPTIMIZERS, PLAIN, Method, methods_of
from funcbio.experiments.plasticity.settings import Settings
from funcbio.experiments.plasticity.tasks import Tasks
from funcbio.experiments.plasticity.training import train

FIRST_SEED = 1000
"""None of the search's seeds is one of the results."""

FILE = "tuning.json"

Found = dict[str, dict[str, dict[str, float]]]
"""By benchmark, optimizer and method: the number that was best."""


def search(settings: Settings, rows: dict[str, Tasks], output: Path, tick: Callable[[], None]) -> list[dict[str, Any]]:
    """Tries every value of every method; the best has the highest accuracy over all tasks.

    Plain training comes first; all other methods are tried at the learning rate that was best for it.

    Args:
        settings: The settings.
        rows: The tasks of every benchmark.
        output: Where finished parts of the search are kept.
        tick: Called after every task of a method.

    Returns:
        One entry for every method: the values, their mean accuracies, and the best.
    """
    entries: list[dict[str, Any]] = []
    for benchmark, optimizer, method in combinations():
        lr = _lr(entries) if method.name != PLAIN else None
        name = f"tuning {benchmark} {optimizer} {method.name}"
        part = partial(_try, settings, rows[benchmark], method, optimizer, lr, tick)
        found = kept(output, name, settings, part)
        scores = found["accuracy"]
        best = max(range(len(scores)), key=scores.__getitem__)
        about = {"benchmark": benchmark, "optimizer": optimizer, "method": method.name, "knob": method.knob}
        entries.append(about | {"values": found["values"], "accuracy": scores, "best": found["values"][best]})
    content = {"settings": numbers_of(settings), "versions": versions(), "seeds": _seeds(settings), "search": entries}
    write_json(output / FILE, content)
    return entries


def combinations() -> Iterator[tuple[str, str, Method]]:
    """All that is trained, in order: every method with Adam, and plain SGD."""
    for benchmark in BENCHMARKS:
        for optimizer in OPTIMIZERS:
            for method in methods_of(optimizer):
                if optimizer == "adam" or method.name == PLAIN:
                    yield benchmark, optimizer, method


def chosen(entries: list[dict[str, Any]]) -> Found:
    """The best numbers of a search."""
    found: Found = {}
    for entry in entries:
        part = found.setdefault(entry["benchmark"], {}).setdefault(entry["optimizer"], {})
        part[entry["method"]] = entry["best"]
    return found


def known(output: Path) -> Found:
    """The best numbers: of a search in this folder, or else of the one whose results are published."""
    path = output / FILE
    if not path.exists():
        path = Path(__file__).with_name(FILE)
    return chosen(json.loads(path.read_text())["search"])


def _lr(entries: list[dict[str, Any]]) -> float:
    return next(entry["best"] for entry in reversed(entries) if entry["method"] == PLAIN)


def _seeds(settings: Settings) -> list[int]:
    return list(range(FIRST_SEED, FIRST_SEED + settings.tuning_seeds))


def _try(
    settings: Settings, row: Tasks, method: Method, optimizer: str, lr: float | None, tick: Callable[[], None]
) -> dict[str, Any]:
    seeds, values = _seeds(settings), torch.tensor(method.grid)
    numbers = {method.knob: values.repeat_interleave(len(seeds))}
    if lr is not None:
        numbers["lr"] = torch.full((len(seeds) * len(values),), lr)
    found = train(
        row,
        method,
        optimizer,
        seeds * len(values),
        numbers,
        tasks=settings.tuning_tasks,
        measured_every=settings.tuning_tasks,
        compile=settings.compile == "yes",
        tick=tick,
    )
    scores = found["accuracy"].reshape(len(values), -1).mean(dim=1)
    return {"values": list(method.grid), "accuracy": scores.tolist()}
