"""The search for every method's numbers, the learning rate among them, on seeds that the results do not use."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch

from funcbio.experiments.frame.files import write_sealed
from funcbio.experiments.frame.only import chosen as chosen_names
from funcbio.experiments.frame.results import about, load_or_run
from funcbio.experiments.frame.searching import Point, explore, finalists
from funcbio.experiments.plasticity.methods import (
    BENCHMARKS,
    METHODS,
    OPTIMIZERS,
    PLAIN,
    Method,
    methods_of,
    spans_of,
    value_of,
)
from funcbio.experiments.plasticity.settings import Settings
from funcbio.experiments.plasticity.tasks import Tasks
from funcbio.experiments.plasticity.training import train
from funcbio.files import FileError
from funcbio.files._seal import read_json

FIRST_SEED = 1000
"""First seed of the search; the results use smaller ones."""

FILE = "tuning.json"

Combination = tuple[str, str, Method]
"""A row of tasks, an optimizer and a method."""

Best = dict[str, dict[str, dict[str, dict[str, float]]]]
"""The best numbers by benchmark, optimizer, method and name."""


def search(
    settings: Settings,
    rows: dict[str, Tasks],
    output: Path,
    tick: Callable[[], None],
    parts: Sequence[Combination] | None = None,
) -> list[dict[str, Any]]:
    """Searches every method's numbers, each from the same start and with as many candidates.

    The score is the mean accuracy over all tasks. The best candidates are run again with other seeds, which decide. An
    entry holds a method's candidates with their accuracies, those that were run again, and the best. Finished parts are
    saved in the output. ``tick`` is called after every task of a round.
    """
    entries: list[dict[str, Any]] = []
    for benchmark, optimizer, method in parts or combinations():
        name = f"tuning {benchmark} {optimizer} {method.name}"
        part = partial(_search, settings, rows[benchmark], method, optimizer, tick)
        names = {"benchmark": benchmark, "optimizer": optimizer, "method": method.name}
        entries.append(names | load_or_run(output, name, settings, part))
    seeds = dict(zip(("seeds", "deciding_seeds"), _seeds(settings), strict=True))
    write_sealed(output / FILE, {**about(settings), **seeds, "search": entries})
    return entries


def combinations(only: Sequence[str] | None = None) -> Iterator[Combination]:
    """Yields every combination that is trained, in order; of named tasks, optimizers and methods, if there are names.

    Plain training comes along, and the method that a named one adds something to.
    """
    beside = [method.beside for method in METHODS if method.name in (only or ()) and method.beside]
    groups = {"tasks": BENCHMARKS, "optimizers": OPTIMIZERS, "methods": [method.name for method in METHODS]}
    some = chosen_names(only, groups, [PLAIN, *beside])
    for benchmark, optimizer in product(some["tasks"], some["optimizers"]):
        for method in methods_of(optimizer):
            if method.name in some["methods"]:
                yield benchmark, optimizer, method


def chosen(entries: list[dict[str, Any]]) -> Best:
    """Returns the best numbers of a search."""
    best: Best = {}
    for entry in entries:
        part = best.setdefault(entry["benchmark"], {}).setdefault(entry["optimizer"], {})
        part[entry["method"]] = dict(zip(entry["numbers"], entry["best"], strict=True))
    return best


def load_best(output: Path) -> Best:
    """Returns the best numbers: of a search in this folder, or else of the one whose results are published."""
    path = output / FILE
    if not path.exists():
        path = Path(__file__).with_name(FILE)
    content = read_json(path)
    try:
        return chosen(content["search"])
    except (LookupError, TypeError, ValueError) as error:
        raise FileError(f"{path} should hold the results of a search; found {type(error).__name__} {error}") from None


def _seeds(settings: Settings) -> tuple[list[int], list[int]]:
    decide = FIRST_SEED + settings.tuning_seeds
    return list(range(FIRST_SEED, decide)), list(range(decide, decide + settings.deciding_seeds))


def _search(settings: Settings, row: Tasks, method: Method, optimizer: str, tick: Callable[[], None]) -> dict[str, Any]:
    spans, (few, others) = spans_of(method, optimizer), _seeds(settings)
    score = partial(_score, settings, row, method, optimizer, tick)
    scores = explore(spans, partial(score, few), settings.rounds)
    last = finalists(scores, spans)
    decided = dict(zip(last, score(others, last), strict=True))
    tables = {"tried": scores, "decided": decided}
    listed = {name: [[*values(point), accuracy] for point, accuracy in table.items()] for name, table in tables.items()}
    return {"numbers": method.numbers, **listed, "best": values(max(decided, key=decided.__getitem__))}


def values(point: Point) -> list[float]:
    """Returns the numbers of a candidate."""
    return [value_of(power) for power in point]


def _score(
    settings: Settings,
    row: Tasks,
    method: Method,
    optimizer: str,
    tick: Callable[[], None],
    seeds: list[int],
    points: list[Point],
) -> list[float]:
    columns = torch.tensor([values(point) for point in points]).repeat_interleave(len(seeds), dim=0).unbind(dim=1)
    measured = train(
        row,
        method,
        optimizer,
        seeds * len(points),
        dict(zip(method.numbers, columns, strict=True)),
        tasks=settings.tuning_tasks,
        measured_every=settings.tuning_tasks,
        compile=settings.compile == "yes",
        tick=tick,
    )
    return measured["accuracy"].unflatten(0, (len(points), -1)).mean(dim=(1, 2)).tolist()
