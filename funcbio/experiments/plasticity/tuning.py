"""The search for every method's one number, on seeds that the results do not use."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch

from funcbio.experiments.files import write_json
from funcbio.experiments.kept import kept, numbers_of, versions
from funcbio.experiments.plasticity.methods import BENCHMARKS, OPTIMIZERS, PLAIN, Method, method_named, methods_of
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

    Plain training comes first; all other methods are tried at the learning rate that was best for it, and those
    that take over another number at the one that was best there.

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
        fixed = numbers_beside(method, optimizer, chosen(entries).get(benchmark, {}).get(optimizer, {}))
        name = f"tuning {benchmark} {optimizer} {method.name}"
        part = partial(_try, settings, rows[benchmark], method, optimizer, fixed, tick)
        found = kept(output, name, settings, part)
        scores = found["accuracy"]
        best = max(range(len(scores)), key=scores.__getitem__)
        about = {"benchmark": benchmark, "optimizer": optimizer, "method": method.name, "knob": method.knob}
        entries.append(about | {"values": found["values"], "accuracy": scores, "best": found["values"][best]})
    content = {"settings": numbers_of(settings), "versions": versions(), "seeds": _seeds(settings), "search": entries}
    write_json(output / FILE, content)
    return entries


def combinations() -> Iterator[tuple[str, str, Method]]:
    """All that is trained, in order: a method comes after those whose numbers it takes over."""
    for benchmark, optimizer in product(BENCHMARKS, OPTIMIZERS):
        for method in methods_of(optimizer):
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


def numbers_beside(method: Method, optimizer: str, best: dict[str, float]) -> dict[str, float]:
    """The numbers that a method takes over, by name, from the best ones of its benchmark and optimizer."""
    taken = [name for name in (PLAIN, method.beside) if name and name != method.name]
    return {method_named(optimizer, name).knob: best[name] for name in taken}


def _seeds(settings: Settings) -> list[int]:
    return list(range(FIRST_SEED, FIRST_SEED + settings.tuning_seeds))


def _try(
    settings: Settings, row: Tasks, method: Method, optimizer: str, fixed: dict[str, float], tick: Callable[[], None]
) -> dict[str, Any]:
    seeds, values = _seeds(settings), torch.tensor(method.grid)
    numbers = {method.knob: values.repeat_interleave(len(seeds))}
    numbers |= {name: torch.full((len(seeds) * len(values),), value) for name, value in fixed.items()}
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
