"""The watch over layers that have been looked at: it tells whether they hold the same tensors in the same memory."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from funcbio.mechanisms import METHODS
from funcbio.objects._layer import BioLayer
from funcbio.tensors._kept import is_watched
from funcbio.tensors._overlap import part_of

SEEN = 8
"""Sets of addresses of gradients that are remembered: backward passes put them in a few places again and again."""


class Watch:
    """Tells whether layers are as they were. Gradients may be others, in other places, of the same shape and layout.

    Args:
        bios: The layers. Their tensors must be of plain memory.

    Raises:
        RuntimeError: If a tensor has no address, as within transforms.
        ValueError: If a weight or a gradient is no plain tensor, or two of them may share memory.
    """

    def __init__(self, bios: Sequence[BioLayer]) -> None:
        self.layers = [(bio, type(bio), bio.rows, bio.config, bio.compiles, _methods(bio)) for bio in bios]
        self.names: list[tuple[dict[str, Any], str, Any]] = []
        self.tables: list[tuple[dict[str, Any], list[str], list[int]]] = []
        self.tensors: list[tuple[Tensor, int, Any, Any, Any, bool]] = []
        self.small: list[tuple[Tensor, int]] = []
        self.gradients: list[tuple[Tensor, Any]] = []
        self.taken: list[tuple[int, int]] = []
        self.known: set[int] = set()
        self.seen: list[tuple[int, ...]] = []
        # As long as they live, nothing else lies in their memory: so addresses tell storages apart.
        self.alive: list[Tensor] = []
        for bio in bios:
            self._add(bio)
        if not self._has_gradients():
            raise ValueError("gradients should be plain tensors with memory of their own")

    def _add(self, bio: BioLayer) -> None:
        parent, name = bio._parent[0], bio.synapse.attribute
        weight: Any = parent._parameters[name]
        if type(weight) is not nn.Parameter:
            raise ValueError("a weight should be a parameter")
        tables: list[dict[str, Any]] = [bio._buffers, bio._parameters, bio.features]  # pyright: ignore[reportAssignmentType]
        self.tables += [(table, [*table], [*map(id, table.values())]) for table in tables]
        if "padding_idx" in parent.__dict__:
            self.names.append((parent.__dict__, "padding_idx", parent.__dict__["padding_idx"]))
        self.names.append((parent._parameters, name, weight))
        for tensor in (*bio._buffers.values(), *bio._parameters.values(), weight):
            if tensor is not None and id(tensor) not in self.known:  # Several layers may share a weight.
                self._add_tensor(tensor)
        self.gradients.append((weight, _look(weight.grad)))

    def _add_tensor(self, tensor: Tensor) -> None:
        start = tensor.data_ptr()
        self.known.add(id(tensor))
        if tensor.numel() <= 2 and not tensor.is_floating_point():  # Counters and keys: nobody turns them.
            self.small.append((tensor, start))
        else:
            self.tensors.append((tensor, start, tensor.shape, tensor.stride(), tensor.dtype, tensor.requires_grad))
        self.alive.append(tensor.detach())
        self.taken += _spans([tensor])

    def holds(self) -> bool:
        """Returns True if the layers are as they were."""
        if is_watched():
            return False
        try:
            return self._are_same() and self._lie_where_they_did() and self._has_gradients()
        except RuntimeError:  # A tensor has no address any more.
            return False

    def _are_same(self) -> bool:
        """Returns True if the layers hold the same objects."""
        for table, name, value in self.names:
            if table.get(name) is not value:
                return False
        for table, keys, ids in self.tables:
            if [*map(id, table.values())] != ids or [*table] != keys:
                return False
        for bio, kind, rows, config, compiles, methods in self.layers:
            same = type(bio) is kind and bio.rows is rows and bio.config is config and bio.compiles is compiles
            if not same or (methods and _methods(bio) != methods):
                return False
        return True

    def _lie_where_they_did(self) -> bool:
        """Returns True if the tensors lie in the same memory, in the same way."""
        for tensor, start in self.small:
            if tensor.data_ptr() != start:
                return False
        for tensor, start, shape, stride, dtype, tracked in self.tensors:
            moved = tensor.data_ptr() != start or tensor.shape != shape or tensor.stride() != stride
            if moved or tensor.dtype is not dtype or tensor.requires_grad is not tracked:
                return False
        return True

    def _has_gradients(self) -> bool:
        """Returns True if the gradients are like those that were looked at, and share no memory with anything."""
        grads = []
        for weight, known in self.gradients:
            grad = weight.grad
            if _look(grad) != known:
                return False
            if grad is not None:
                grads.append(grad)
        key = tuple([grad.data_ptr() for grad in grads])
        return key in self.seen or self._are_apart(key, grads)

    def _are_apart(self, key: tuple[int, ...], grads: Sequence[Tensor]) -> bool:
        spans = sorted([*self.taken, *_spans(grads)])
        if any(before[1] > after[0] for before, after in pairwise(spans)):
            return False
        self.seen = [*self.seen[1 - SEEN :], key]
        return True


def watch(bios: Sequence[BioLayer]) -> Watch | None:
    """Returns a watch over layers; None if their tensors cannot be told apart by where they lie."""
    if is_watched():
        return None
    try:
        return Watch(bios)
    except (RuntimeError, KeyError, AttributeError, ValueError):  # Of sparse gradients, or without a weight.
        return None


def _methods(bio: BioLayer) -> list[Any]:
    """Returns the methods of a subclass, which may be replaced on the class."""
    kind = type(bio)
    return [] if kind is bio.documented else [getattr(kind, name, None) for name in METHODS]


def _look(grad: Tensor | None) -> Any:
    """Returns what a gradient has to have in common with that of before; torch has compared devices."""
    return None if grad is None else (type(grad), grad.dtype, grad.shape, grad.stride(), grad.is_neg())


def _spans(tensors: Sequence[Tensor]) -> list[tuple[int, int]]:
    """Returns the address ranges of tensors that have any memory."""
    parts = [part_of(tensor, None, written=True) for tensor in tensors]
    return [(part.start, part.end) for part in parts if part is not None]
