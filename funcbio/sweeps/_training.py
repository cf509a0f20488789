"""Trains the members of one chunk from where they are to the end, noting what was measured."""

import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from funcbio.sweeps._batches import Batches, StepKeys
from funcbio.sweeps._engine import Engine
from funcbio.sweeps._folds import rows_of
from funcbio.sweeps._job import MEASURED_AT_ONCE, Job
from funcbio.sweeps._store import Store, Trained
from funcbio.sweeps._trials import Trial

SLOW = "There is a performance drop"


def train(job: Job, trials: Sequence[Trial], name: str, store: Store, tick: Callable[[int, float], None]) -> Trained:
    """Trains a chunk, or goes on with it, or takes it as it was finished.

    Args:
        job: The sweep.
        trials: Its members; all of one kind.
        name: Name of the chunk.
        store: Where its state is kept.
        tick: Told the number of member-steps done, and the mean loss.

    Returns:
        What was measured, and the final tensors.
    """
    finished = store.finished(name)
    if finished is not None:
        tick(job.steps * len(trials), float("nan"))
        return finished
    with warnings.catch_warnings():
        # Of recurrent layers: the fallback is still several times faster than a loop over members.
        warnings.filterwarnings("ignore", message=SLOW)
        engine = job.engine(trials)
        return _run(job, engine, trials, name, store, tick)


def _run(
    job: Job, engine: Engine, trials: Sequence[Trial], name: str, store: Store, tick: Callable[[int, float], None]
) -> Trained:
    members = len(trials)
    rows_train, rows_test = (rows_of(job.folds, trials, part, job.device) for part in (0, 1))
    batches, noise = Batches(job, engine.own.keys["batches"], rows_train), StepKeys(engine.own.keys["noise"])
    _probe(job, engine, batches.at(0), noise.at(0))
    lost = torch.zeros(members, dtype=torch.float64, device=job.device)
    done, since, rows = store.resume(name, engine, lost)
    tick(done * members, float("nan"))
    saved = time.monotonic()
    for number in range(done, job.steps):
        lost += engine.step(number, batches.at(number), noise.at(number))
        since += 1
        if (number + 1) % job.record_every == 0 or number + 1 == job.steps:
            rows.append(_row(job, engine, rows_test, number + 1, lost / since))
            lost.zero_()
            since = 0
        tick(members, rows[-1]["mean"] if rows and since == 0 else float("nan"))
        if time.monotonic() - saved > store.seconds:
            store.save(name, engine, number + 1, since, rows, lost)
            saved = time.monotonic()
    found = Trained(
        rows,
        {leaf: tensor.cpu() for leaf, tensor in {**engine.own.params, **engine.own.fixed}.items()},
        {leaf: tensor.cpu() for leaf, tensor in engine.own.buffers.items()},
        engine.seconds,
        engine.compile_seconds,
        engine.timed * members,
    )
    store.finish(name, found)
    return found


def _probe(job: Job, engine: Engine, batch: Tensor, keys: Tensor) -> None:
    """Falls back to a loop over members, saying so, where torch cannot run the model under vmap."""
    reason = engine.kind.probe(engine.own, batch, keys)
    if reason is not None:
        rest = ", and without compile=True" if job.compile else ""
        warnings.warn(f"this model trains member by member{rest}: torch cannot vmap it ({reason})", stacklevel=5)


def _row(job: Job, engine: Engine, own: Tensor | None, step: int, loss: Tensor) -> dict[str, Any]:
    """Everything that is recorded at a step."""
    row: dict[str, Any] = {"step": step, "mean": float(loss.mean()), "train_loss": loss.tolist()}
    metrics = {"loss": job.loss, **job.metrics}
    totals = {name: torch.zeros(len(loss), dtype=torch.float64, device=job.device) for name in metrics}
    count = (len(job.held_out[0]) if job.held_out else 0) if own is None else own.shape[1]
    for start in range(0, count, MEASURED_AT_ONCE):
        part = slice(start, min(start + MEASURED_AT_ONCE, count))
        shared = [tensor[part] for tensor in job.held_out]
        found = engine.measure(metrics, shared) if own is None else engine.measure_rows(metrics, own[:, part])
        for name, value in found.items():
            totals[name] += value * ((part.stop - part.start) / count)
    return row | {f"test_{name}": total.tolist() for name, total in totals.items() if count}
