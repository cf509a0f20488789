"""Training of the candidates of one method on one row of tasks, as one sweep."""

import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

import funcbio
from funcbio import BioConfig
from funcbio.experiments.arena.methods import DECAY, Method, settings_of
from funcbio.experiments.arena.networks import norms_of
from funcbio.experiments.arena.settings import Settings
from funcbio.experiments.arena.tasks import Row
from funcbio.experiments.frame.searching import Point
from funcbio.sweeps import _ranks
from funcbio.sweeps._progress import is_live

OPTIMIZERS = {"sgd": torch.optim.SGD, "adam": torch.optim.AdamW, "coupled": torch.optim.Adam}
"""With AdamW decay is decoupled from the gradient; without decay it is Adam."""

AT_ONCE = 24
"""Members that train together; always as many, so that a step is compiled once for the search and the results."""


class Measured(NamedTuple):
    """Holds what a sweep measured.

    Attributes:
        values: The measure, for each candidate, seed and block; nan where a member diverged.
        seconds: Time of a step of one member.
    """

    values: list[list[list[float]]]
    seconds: float


def train(
    settings: Settings,
    row: Row,
    method: Method,
    optimizer: str,
    points: Sequence[Point],
    seeds: Sequence[int],
    output: Path,
    *,
    progress: bool | None = None,
) -> Measured:
    """Trains a method with every candidate and seed, or goes on with it; under torchrun, over all processes."""
    steps = settings.steps * row.length
    grid: list[Any] = [settings_of(method, point) for point in points]
    decays = DECAY in method.knobs
    if not decays:
        grid = [{**candidate, "weight_decay": 0.0} for candidate in grid]
    distinct = [each for at, each in enumerate(grid) if each not in grid[:at]]  # Candidates are rounded.
    result = funcbio.sweep(
        partial(row.network, method.norm),
        row.loss,
        row.make,
        steps=steps,
        optimizer=OPTIMIZERS["coupled" if method.coupled else optimizer],
        newborn=method.newborn,
        no_decay=norms_of(row.network(method.norm)) if decays else (),
        mechanisms=list(method.mechanisms),
        config=BioConfig(**method.fields),
        seeds=seeds,
        grid=distinct,
        train_metrics={"measure": row.measure},
        record_every=steps // settings.blocks,
        compile=settings.compile == "yes",
        chunk=AT_ONCE,
        device="cpu",
        output=output,
        progress=not is_live() if progress is None else progress,  # In a terminal there is a bar of the methods.
    )
    if result is None:
        return Measured([], 0.0)
    column = result.table["train_measure"]
    trained = torch.tensor(column).reshape(len(distinct), len(seeds), settings.blocks).tolist()
    values = [trained[distinct.index(each)] for each in grid]
    return Measured(values, result.seconds / max(result.member_steps, 1))


def shared(make: Any) -> Any:
    """Returns what a function returns on the first process, on all of them."""
    with _ranks.group():
        return _ranks.by_first(make)


def clear(folder: Path) -> None:
    """Removes the folder of finished sweeps, on the first process."""
    shared(lambda: shutil.rmtree(folder, ignore_errors=True))
