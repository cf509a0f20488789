"""A rehearsal: training, measuring and saving, tried before the first step on two members that are thrown away."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from funcbio.base import listed
from funcbio.checkpoint import load_checkpoint, save_checkpoint
from funcbio.functional._idle import outside
from funcbio.sweeps._engine import Engine, Kind
from funcbio.sweeps._job import Job
from funcbio.sweeps._shared import QUIET
from funcbio.sweeps._stack import build
from funcbio.sweeps._training import Course, measured, result, spans
from funcbio.sweeps._trials import Trial

Noted = Callable[[str, Callable[..., Any]], Callable[..., Any]]
"""Makes of a function, and what to call it, one that notes whether it fails."""


def rehearse(job: Job, trials: Sequence[Trial], *, saves: bool) -> None:
    """Finds out how torch can train and measure members of one kind, and warns where that is slower than by vmap.

    Args:
        job: The sweep.
        trials: Members of one kind.
        saves: Whether their state will be written.

    Raises:
        Exception: What training, measuring or saving would raise.
    """
    kind = job.kind(trials[0])
    if kind.rehearsed:
        return
    engine = job.engine(trials[:2])
    course, suffix = Course(job, engine, trials[:2]), ", and without compile=True" if kind.compile else ""
    _try_vmap(kind, partial(_train, engine, course), "looped", f"this model trains member by member{suffix}")
    _try_vmap(kind, partial(_measure, engine, course), "measures_looped", "this model is measured member by member")
    if kind.rules.remembers(*course.first):
        should = "model should keep what its forward passes change in registered buffers"
        problem = "an output that changes from call to call: members are then not what they are alone"
        warnings.warn(f"{should}; found {problem}", stacklevel=outside())
    if saves:
        _save(engine)
    kind.rehearsed = True


@contextmanager
def types_explained(job: Job) -> Iterator[None]:
    """Makes of torch's error about types of tensors one that names those of the data and the model."""
    try:
        yield
    except RuntimeError as error:
        _require_types(job, error)
        raise


def _require_types(job: Job, error: RuntimeError) -> None:
    """Raises ValueError if torch's error is one of data whose types do not fit the model or the loss."""
    reason = f"{error}".strip().split("\n")[0]
    tensors = [*job.examples, *job.held_out]
    if not any(words in reason for words in ("dtype", "scalar type")):
        return
    weights = listed(dict.fromkeys(one.dtype for one in build(job.model, job.trials[0], job.shared).parameters()))
    found = listed(dict.fromkeys(one.dtype for one in tensors)) or "batches of other types"
    should = f"of types that the loss and the model, with parameters of {weights}, can take"
    raise ValueError(f"data should be {should}; found {found}: {reason}") from error


def _try_vmap(kind: Kind, act: Callable[..., None], loop: str, message: str) -> None:
    """Runs ``act`` by vmap; if that fails, switches to a loop over members and warns of what made it fail."""
    reason = None if getattr(kind, loop) else _failure(act)
    if reason is None:
        return
    cause = _cause(kind, act)
    setattr(kind, loop, True)
    kind.compile = kind.compile and not kind.looped
    act()
    warnings.warn(f"{message}: torch cannot vmap {cause} ({reason})", stacklevel=outside())


def _cause(kind: Kind, act: Callable[..., None]) -> str:
    """Returns what of the user's fails by vmap, found by a second try; "it" if that is the model."""
    rules, failed = kind.rules, list[str]()
    noted = partial(_noting, failed)
    seen = {name: noted(f"train_metrics[{name!r}]", metric) for name, metric in rules.seen.items()}
    kind.rules = replace(rules, read=noted("data", rules.read), loss=noted("loss", rules.loss), seen=seen)
    try:
        _failure(partial(act, noted))
    finally:
        kind.rules = rules
    return failed[0] if failed else "it"


def _noting(failed: list[str], name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function that notes its name if it fails."""

    def noting(*args: Any) -> Any:
        try:
            return function(*args)
        except Exception:
            failed.append(name)
            raise

    return noting


def _failure(act: Callable[[], None]) -> str | None:
    """Runs ``act``; returns why it failed, None if it did not."""
    try:
        with QUIET.changed():
            act()
    except Exception as error:
        return str(error).strip().split("\n")[0]
    return None


@torch.no_grad()
def _train(engine: Engine, course: Course, noted: Noted | None = None) -> None:
    """Makes two steps with all mechanisms: in the second one, optimizers act by other code."""
    del noted  # What a step calls is in the rules.
    kind, everything = engine.kind, tuple(range(len(engine.kind.rules.mechanisms)))
    kind.rules = replace(kind.rules, draws=kind.rules.draws_in_forward(*course.first))
    if kind.looped and kind.rules.draws and kind.rules.draws_in_backward(*course.first):
        # Checkpointing puts torch's own generator back, which in a loop follows from the member's key.
        kind.rules = replace(kind.rules, draws=False)
    engine.flat.replace(course.start.map(torch.clone), {})
    for number in range(2):
        engine.advance(everything, *course.at(number))


def _measure(engine: Engine, course: Course, noted: Noted | None = None) -> None:
    """Measures on the first part of the test data, and on the last one, which may be smaller."""
    parts, metrics = spans(course.held_out), course.metrics
    if noted is not None:
        metrics = {n: noted("loss" if n == "loss" else f"metrics[{n!r}]", m) for n, m in metrics.items()}
    for part in parts[:1] + parts[1:][-1:]:
        measured(engine, course, [part], metrics)


def _save(engine: Engine) -> None:
    """Writes and reads a state in a temporary folder."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "rehearsal"
        save_checkpoint(path, engine=engine, **result(engine, [])._asdict())
        engine.load_state_dict(load_checkpoint(path)["engine"])
