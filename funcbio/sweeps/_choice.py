"""The choice of ``compile="auto"``: made before the first step by an estimate, and kept with the sweep."""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from funcbio.sweeps._engine import Engine
from funcbio.sweeps._job import Job
from funcbio.sweeps._rehearsal import rehearse
from funcbio.sweeps._shared import QUIET
from funcbio.sweeps._training import Course
from funcbio.sweeps._trials import Trial

SECONDS_AN_OPERATION = 0.06
"""Time to compile one of torch's operations in a step; see docs/compile.md."""

SECONDS_TO_START = 15.0
"""Time until torch has compiled the first graph of a process."""

SHARE_SAVED = 0.5
"""Share of an eager step's time that compiling saves at least; convolutions save less, small networks 0.9."""

MOST_STEPS = 1000
"""Steps in which sets of mechanisms that act together are looked for."""


class Choice(NamedTuple):
    """Says whether members of one kind train compiled, and why."""

    compile: bool
    why: str


def choose(job: Job, kinds: Sequence[Sequence[Trial]], size: int, processes: int, *, saves: bool) -> list[Choice]:
    """Chooses for every kind of members, by measuring a few eager steps that are thrown away.

    Args:
        job: The sweep.
        kinds: The members of every kind.
        size: How many of them train at once.
        processes: How many processes share the work.
        saves: Whether their state will be written.
    """
    choices = []
    for trials in kinds:
        rehearse(job, trials[:size], saves=saves)
        choices.append(_choice(job, trials, size, processes))
    return choices


def estimate(eager: float, operations: int, graphs: int) -> Choice:
    """Chooses by the seconds that all eager steps take, the operations of a step, and the graphs to compile.

    Example:
        >>> (
        ...     estimate(eager=300.0, operations=200, graphs=1).compile,
        ...     estimate(60.0, 200, 1).compile,
        ... )
        (True, False)
    """
    cost = SECONDS_TO_START + graphs * operations * SECONDS_AN_OPERATION
    pays = SHARE_SAVED * eager > cost
    told = f"{eager:.3g} s of eager steps, {cost:.3g} s to compile {graphs} x {operations} operations"
    return Choice(pays, f"{'compiled' if pays else 'eager'}: an estimated {told}")


def _choice(job: Job, trials: Sequence[Trial], size: int, processes: int) -> Choice:
    if job.kind(trials[0]).looped:
        return Choice(False, "eager: members train one by one")
    chunks = -(-len(trials) // size)
    engine = job.engine(trials[: -(-len(trials) // chunks)])
    with QUIET.changed():
        seconds, operations = _measured(engine, Course(job, engine, trials[: len(engine.members.keys["noise"])]))
    sizes = 1 if len(trials) % chunks == 0 else 2
    steps = -(-chunks // processes) * (job.steps - 1)
    return estimate(steps * seconds, operations, sizes * _sets(job, engine))


@torch.no_grad()
def _measured(engine: Engine, course: Course) -> tuple[float, int]:
    """Returns the shortest time of a step with all mechanisms, and the number of its operations."""
    acting, times = tuple(range(len(engine.kind.rules.mechanisms))), []
    for number in range(4):
        inputs, began = course.at(number), time.perf_counter()
        engine.advance(acting, *inputs)
        times.append(time.perf_counter() - began)
    with Counting() as counting:
        engine.advance(acting, *course.at(4))
    return min(times[1:]), counting.count


def _sets(job: Job, engine: Engine) -> int:
    """Counts the sets of mechanisms that act together in some compiled step."""
    numbers = range(1, min(job.steps, MOST_STEPS))
    return len({tuple(m.acts(number) for m in engine.kind.rules.mechanisms) for number in numbers})


class Counting(TorchDispatchMode):
    """Counts the operations that torch runs while it is active."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Counts one."""
        del types
        self.count += 1
        return func(*args, **(kwargs or {}))
