"""Training of the members of one chunk from where they are to the end, with a row of numbers at every record."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from funcbio.sweeps._batches import Batches, StepKeys, first_of
from funcbio.sweeps._engine import Engine
from funcbio.sweeps._folds import rows_of
from funcbio.sweeps._job import MEASURED_AT_ONCE, Job
from funcbio.sweeps._shared import QUIET
from funcbio.sweeps._store import Store, Trained
from funcbio.sweeps._trials import Trial


class Course:
    """Holds what members read: their batches and keys in every step, and the examples on which they are measured.

    Args:
        job: The sweep.
        engine: The members at their start.
        trials: The same members.

    Attributes:
        held_out: Number of examples to measure on.
        metrics: What is measured on them.
        rows: Their row numbers in the data, shape ``(members, examples)``; None if all members share test data.
    """

    def __init__(self, job: Job, engine: Engine, trials: Sequence[Trial]) -> None:
        learned, self.rows = (rows_of(job.folds, trials, part, job.device) for part in (0, 1))
        self.job, self.start = job, engine.members
        self.metrics = {"loss": job.loss, **job.metrics}
        self.batches = Batches(job, engine.members.keys["batches"], learned)
        self.noise = StepKeys(engine.members.keys["noise"])
        self.held_out = (len(job.held_out[0]) if job.held_out else 0) if self.rows is None else self.rows.shape[1]

    def at(self, number: int) -> tuple[Any, Tensor]:
        """Returns batches and keys of a step."""
        return self.batches.at(number), self.noise.at(number)

    @property
    def first(self) -> tuple[Any, Any, Tensor]:
        """Returns the first member alone, its first batch and key."""
        batches, keys = self.at(0)
        return self.start.map(lambda leaf: leaf[0]), first_of(batches), keys[0]


def train(job: Job, trials: Sequence[Trial], name: str, store: Store, tick: Callable[[int, float], None]) -> Trained:
    """Trains a chunk, or resumes it.

    Args:
        job: The sweep.
        trials: Its members; all of one kind.
        name: Name of the chunk.
        store: Where its state is kept.
        tick: Is called with the number of member-steps done, and the mean loss.

    Returns:
        The measurements, and the final tensors.
    """
    with QUIET.changed():
        engine = job.engine(trials)
        trained = _run(Course(job, engine, trials), engine, name, store, tick)
    store.finish(name, trained)
    return trained


def _run(course: Course, engine: Engine, name: str, store: Store, tick: Callable[[int, float], None]) -> Trained:
    job, members = course.job, len(course.start.keys["noise"])
    seen = [f"train_{name}" for name in ("loss", *job.train_metrics)]
    shape = (members, 1 + len(job.train_metrics)) if job.train_metrics else (members,)
    lost = torch.zeros(shape, dtype=torch.float64, device=job.device)
    done, since, rows = store.resume(name, engine, lost)
    tick(done * members, float("nan"))
    saved = time.monotonic()
    for number in range(done, job.steps):
        lost += engine.step(number, *course.at(number))
        since += 1
        if (number + 1) % job.record_every == 0 or number + 1 == job.steps:
            losses = (lost / since).reshape(members, -1).T
            row: dict[str, Any] = {"step": number + 1, "mean": float(losses[0].mean())}
            row |= zip(seen, losses.tolist(), strict=True)
            rows.append(row | measured(engine, course, spans(course.held_out)))
            lost.zero_()
            since = 0
        tick(members, rows[-1]["mean"] if rows and since == 0 else float("nan"))
        if time.monotonic() - saved > store.seconds:
            store.save(name, engine, number + 1, since, rows, lost)
            saved = time.monotonic()
    return result(engine, rows)


def result(engine: Engine, rows: list[dict[str, Any]]) -> Trained:
    """Returns the results of members, on the CPU."""
    members = engine.members
    return Trained(
        rows,
        {leaf: tensor.cpu() for leaf, tensor in {**members.params, **members.fixed}.items()},
        {leaf: tensor.cpu() for leaf, tensor in members.buffers.items()},
        engine.seconds,
        engine.compile_seconds,
        engine.timed * len(members.keys["noise"]),
    )


def spans(count: int) -> list[slice]:
    """Cuts the examples into parts that are measured at once."""
    return [slice(at, min(at + MEASURED_AT_ONCE, count)) for at in range(0, count, MEASURED_AT_ONCE)]


def measured(
    engine: Engine, course: Course, parts: Sequence[slice], metrics: Mapping[str, Callable[..., Tensor]] | None = None
) -> dict[str, list[float]]:
    """Returns the metrics of every member on parts of the examples, averaged over all parts."""
    job, rows, totals = course.job, course.rows, dict[str, Any]()
    metrics = course.metrics if metrics is None else metrics
    for part in parts:
        shared = [tensor[part] for tensor in job.held_out]
        values = engine.measure(metrics, shared) if rows is None else engine.measure_rows(metrics, rows[:, part])
        for name, value in values.items():
            share = value * ((part.stop - part.start) / course.held_out)
            totals[name] = totals.get(name, 0.0) + share.double()
    return {f"test_{name}": total.tolist() for name, total in totals.items()}
