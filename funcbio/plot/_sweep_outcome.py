"""Names and orders of hyper-parameters that the figures of a sweep share."""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol


class Outcome(Protocol):
    """Describes what a figure reads of a result; ``SweepResult`` has it."""

    table: dict[str, list[Any]]
    hyper: tuple[str, ...]
    members: int


def averaged(drawn: Sequence[str], result: Outcome) -> str:
    """Names the hyper-parameters that a figure averages over, if there are any."""
    others = ", ".join(name for name in result.hyper if name not in drawn)
    return f",\naveraged over {others}" if others else ""


def ordered(values: Iterable[Any]) -> list[Any]:
    """Returns the distinct values: numbers by size, others as they come."""
    distinct = list(dict.fromkeys(values))
    return sorted(distinct) if all(isinstance(value, int | float) for value in distinct) else distinct
