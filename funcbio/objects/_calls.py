"""Calls: every public method first looks at all layers here, before the engine changes any."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, NamedTuple

from torch import nn

from funcbio.engine._layers import Layer, Step
from funcbio.mechanisms import METHODS, Row
from funcbio.objects._checks import check_method
from funcbio.objects._layer import BioLayer
from funcbio.objects._memory import check_apart
from funcbio.objects._ready import collect, steps_of

PlainLayers = list[tuple[BioLayer, Layer, list[Step]]]
Methods = Sequence[tuple[str, Row | None]]
"""Names, and what the table holds of each; None is a method of a subclass."""
Signature = list[tuple[Any, ...]]


class Prepared(NamedTuple):
    """Holds layers that have been checked.

    Attributes:
        bios: All of them, in order.
        ready: Those of plain memory, with their tensors and kernels: the engine runs them together.
        alone: All others: their methods are called one by one.
    """

    bios: list[BioLayer]
    ready: PlainLayers
    alone: list[BioLayer]


def takes_part(bio: BioLayer, row: Row | None) -> bool:
    """Returns True if a method runs on a layer: it is not frozen, and has all that the row asks for."""
    if not bio.participates or (row is not None and not row.is_for(bio.synapse)):
        return False
    return row is None or not row.needs_grad or bio.has_gradient()


def prepare(asked: Iterable[tuple[BioLayer, Methods]], *, on_update: bool = False) -> Prepared:
    """Looks at layers, each with the methods that are to run on it as one.

    Raises:
        RuntimeError: If a method cannot run on a layer as it is.
        AttributeError: If the configuration of a layer does not allow it.
    """
    bios: list[BioLayer] = []
    ready: PlainLayers = []
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
    return Prepared(bios, ready, alone)


def signature(bios: Iterable[BioLayer]) -> Signature | None:
    """Returns all that decides how layers run, to be compared with that of an earlier call; None if it is not known.

    Gradients are compared by where they lie: each backward pass may make new ones.
    """
    parts: Signature = []
    try:
        for bio in bios:
            parent = bio._parent[0]
            weight: Any = parent._parameters[bio.synapse.attribute]
            if type(weight) is not nn.Parameter:
                return None
            tensors = [t for t in (*bio._buffers.values(), *bio._parameters.values(), weight) if t is not None]
            with_gradient = tensors if weight.grad is None else [*tensors, weight.grad]
            kind, padding = type(bio), parent.__dict__.get("padding_idx")
            methods = () if kind is bio.documented else tuple([getattr(kind, name, None) for name in METHODS])
            # A bound method is equal to none but that of the same object, and keeps it.
            parts.append((bio.config.replace, bio.compiles, kind, methods, padding, weight.requires_grad))
            objects = (bio.rows, *bio.features.values(), *tensors)
            parts.append((*bio._buffers, *bio._parameters, *bio.features, *map(id, objects)))
            parts.extend([(type(t), t.data_ptr(), t.shape, t.stride(), t.dtype, t.device) for t in with_gradient])
    except (RuntimeError, KeyError, AttributeError):  # Inside transforms, of sparse gradients, or without a weight.
        return None
    return parts


class Plans:
    """Keeps layers that have been looked at until something that matters changes: looking takes longer than running.

    Only layers of plain memory are kept, and no gradients.
    """

    def __init__(self) -> None:
        self.mark: Signature | None = None
        self.kept: dict[Hashable, PlainLayers] = {}

    def get(self, key: Hashable, mark: Signature | None, look: Callable[[], Prepared]) -> Prepared:
        """Returns what is kept under a key if the signature is the same, or the result of looking."""
        if mark is None or mark != self.mark:
            self.kept.clear()  # Nothing of before is kept alive.
            self.mark = mark
        kept = self.kept.get(key)
        if kept is not None:
            return Prepared([bio for bio, _, _ in kept], [_with_gradient(*entry) for entry in kept], [])
        prepared = look()
        if mark is not None and prepared.ready and not prepared.alone:
            self.kept[key] = [(bio, _without_gradient(layer), steps) for bio, layer, steps in prepared.ready]
        return prepared


def _without_gradient(layer: Layer) -> Layer:
    return layer._replace(operands={name: value for name, value in layer.operands.items() if name != "grad"})


def _with_gradient(bio: BioLayer, layer: Layer, steps: list[Step]) -> tuple[BioLayer, Layer, list[Step]]:
    operands = {**layer.operands, "grad": layer.operands["weight"].grad}
    return bio, Layer(layer.name, layer.key, operands, layer.compiles), steps
