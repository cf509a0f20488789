"""Calls: every public method first looks at all layers here, before the engine changes any."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, NamedTuple

from funcbio.engine._layers import Step
from funcbio.mechanisms import Row
from funcbio.objects._checks import check_method
from funcbio.objects._layer import BioLayer
from funcbio.objects._memory import check_apart
from funcbio.objects._ready import Entry, Ready, collect, steps_of

Methods = Sequence[tuple[str, Row | None]]
"""Names, and what the table holds of each; None is a method of a subclass."""


class Prepared(NamedTuple):
    """Holds layers that have been checked.

    Attributes:
        bios: All of them, in order.
        ready: Those of plain memory, with their tensors and kernels: the engine runs them together.
        alone: All others: their methods are called one by one.
    """

    bios: list[BioLayer]
    ready: Ready
    alone: list[BioLayer]

    @property
    def is_ready(self) -> bool:
        """Returns True if all layers run together."""
        return bool(self.ready) and not self.alone


def takes_part(bio: BioLayer, row: Row | None) -> bool:
    """Returns True if a method runs on a layer: it is not frozen, and has all that the row asks for."""
    if not bio.participates or (row is not None and not row.is_for(bio.synapse)):
        return False
    return row is None or not row.reads_gradient(bio.config) or bio.has_gradient()


def prepare(asked: Iterable[tuple[BioLayer, Methods]], *, on_update: bool = False) -> Prepared:
    """Looks at layers, each with the methods that are to run on it as one.

    Raises:
        RuntimeError: If a method cannot run on a layer as it is.
        AttributeError: If the configuration of a layer does not allow it.
    """
    bios: list[BioLayer] = []
    ready: list[Entry] = []
    alone: list[BioLayer] = []
    calls: list[tuple[BioLayer, Sequence[Step] | None]] = []
    for bio, methods in asked:
        bios.append(bio)
        names = [name for name, _ in methods]
        ours = all(row is not None and bio.row(name) is row for name, row in methods)
        collected = collect(bio, names) if ours else None
        if not ours:
            for _, row in methods:
                check_method(bio, row)
        if collected is not None and bio.inherits(names):
            ready.append((bio, *collected))
            calls.append((bio, collected[1]))
            continue
        alone.append(bio)
        if any(row is not None for _, row in methods):  # Else nothing is known of what it writes.
            calls.append((bio, steps_of(bio, names) if ours and bio.inherits(names) else None))
    check_apart(calls, on_update=on_update)
    return Prepared(bios, Ready(ready), alone)


class Plans:
    """Keeps what was made of layers that have been looked at: looking takes longer than running.

    All of it is let go when a layer is no longer as it was.
    """

    def __init__(self) -> None:
        self.mark: object = None
        self.kept: dict[Hashable, Any] = {}

    def get(self, key: Hashable, mark: object, look: Callable[[], Any]) -> Any:
        """Returns what is kept under a key, or the result of looking, kept if it says that it is ready.

        Args:
            key: Names what is asked.
            mark: Is the same object as long as all layers are as they were; None if that is not known.
            look: Makes it.
        """
        if mark is None or mark is not self.mark:
            self.kept.clear()  # Nothing of before is kept alive.
            self.mark = mark
        if key in self.kept:
            return self.kept[key]
        made = look()
        if mark is not None and made.is_ready:
            self.kept[key] = made
        return made
