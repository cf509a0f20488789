"""What the figures of a sweep share: how they name what they are drawn of."""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol


class Outcome(Protocol):
    """What a figure is drawn of; a ``SweepResult`` is one."""

    table: dict[str, list[Any]]
    hyper: tuple[str, ...]
    members: int


def averaged(drawn: Sequence[str], result: Outcome) -> str:
    """Names the hyper-parameters that a figure does not tell apart, if there are any."""
    others = ", ".join(name for name in result.hyper if name not in drawn)
    return f",\naveraged over {others}" if others else ""


def ordered(values: Iterable[Any]) -> list[Any]:
    """Distinct values: numbers by size, others as they come."""
    distinct = list(dict.fromkeys(values))
    return sorted(distinct) if all(isinstance(value, int | float) for value in distinct) else distinct
