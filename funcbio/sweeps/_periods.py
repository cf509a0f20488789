"""Mechanisms that would act for the first time after the last step of a sweep."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from funcbio.mechanisms._placed import Mechanism
from funcbio.sweeps._job import Job
from funcbio.sweeps._trials import Trial

ROUNDING = 1e-3
"""Part of a unit that shares of float32 may gain while they add up."""


class First(NamedTuple):
    """Says when a mechanism may act for the first time.

    Attributes:
        call: The number of its call, from 1.
        cause: The keyword that makes it so late; "" if none does.
    """

    call: int
    cause: str


def late(job: Job, trial: Trial) -> list[str]:
    """Returns which mechanisms of a member would not act in any of its steps, and why."""
    reasons = (_reason(job, trial, mechanism) for mechanism in trial.mechanisms)
    return [reason for reason in reasons if reason is not None]


def _reason(job: Job, trial: Trial, mechanism: Mechanism) -> str | None:
    row, hyper, first = mechanism.row, dict[str, Any](), First(1, "")
    if row.counts_calls or row.by_unit:  # Ours: what its keywords mean is known.
        hyper = {**row.defaults, **row.configured(trial.config)}
        first = first_call(hyper, lambda: _largest(job))
    if first.call * mechanism.every <= job.steps:
        return None
    period = [f"every={mechanism.every}"] if mechanism.every > 1 else []
    field = [f"{row.fields.get(first.cause, first.cause)}={hyper[first.cause]}"] if first.cause else []
    should = f"act by step {job.steps}, the last one"
    return f"{mechanism.name} should {should}; found {' and '.join([*period, *field])}, so that it changes nothing"


def first_call(hyper: Mapping[str, Any], largest: Any) -> First:
    """Returns when a mechanism with some hyper-parameters may act for the first time.

    Args:
        hyper: The hyper-parameters by name.
        largest: Returns the number of units in the largest population.
    """
    if "patience" in hyper:  # The first that a unit may be silent for; its own is learned after ``every`` calls.
        cause = min("patience", "every", key=lambda name: hyper[name])
        return First(hyper[cause] + 1, cause)
    if "every" in hyper:
        return First(hyper["every"], "every")
    if "maturity" in hyper:
        share = hyper["replacement_rate"] * largest()
        if not hyper["accumulate"]:
            return First(hyper["maturity"] + 1, "maturity")
        calls = math.ceil((1.0 - ROUNDING) / share) if share > 0.0 else 1
        cause = "maturity" if hyper["maturity"] >= calls else "replacement_rate"
        return First(hyper["maturity"] + calls, cause)
    return First(1, "")


def _largest(job: Job) -> int:
    return max((int(one.replaceable.sum()) for one in job.table.values()), default=0)
