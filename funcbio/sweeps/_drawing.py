"""What the figures of a sweep share: a blank figure, and how values are written."""

from collections.abc import Iterable, Sequence
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, Any, Protocol

from funcbio.sweeps.statistics import extra

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Outcome(Protocol):
    """What a figure is drawn of; a ``SweepResult`` is one."""

    table: dict[str, list[Any]]
    hyper: tuple[str, ...]
    members: int


def spell(value: Any) -> str:
    """Writes the value of a hyper-parameter: as short as it can be, so 0.3 for 0.1 + 0.2."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def count(number: int, noun: str) -> str:
    """Writes a number of things."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def figure_of(**options: Any) -> "Figure":
    """A figure that no window manager knows of, and that a notebook shows all the same."""
    figure = extra("matplotlib.figure").Figure(layout="constrained", **options)
    vars(figure)["_repr_png_"] = partial(_png, figure)
    return figure


def _png(figure: "Figure") -> bytes:
    content = BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()


def averaged(drawn: Sequence[str], result: Outcome) -> str:
    """Names the hyper-parameters that a figure does not tell apart, if there are any."""
    others = ", ".join(name for name in result.hyper if name not in drawn)
    return f",\naveraged over {others}" if others else ""


def ordered(values: Iterable[Any]) -> list[Any]:
    """Distinct values: numbers by size, others as they come."""
    distinct = list(dict.fromkeys(values))
    return sorted(distinct) if all(isinstance(value, int | float) for value in distinct) else distinct
