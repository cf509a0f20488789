"""Rows of the table on many layers at once: tensors and steps of every layer are checked before any is changed."""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from funcbio.anatomy._synapses import Synapse
from funcbio.bio_config import BioConfig
from funcbio.engine._arranged import Arranged
from funcbio.engine._layers import Layer, Step, broadcasts, is_alike, is_key, takes_part
from funcbio.mechanisms import Row
from funcbio.objects._buffers import places_of
from funcbio.objects._checks import check_method
from funcbio.objects._memory import FIELDS
from funcbio.rng import step_of
from funcbio.tensors._overlap import overlaps_itself
from funcbio.tensors._sharding import is_plain

Entry = tuple[Any, Layer, Sequence[Step]]
"""A layer, its tensors and its steps."""


class Bio(Protocol):
    """Describes the layers that the rows run on; a ``BioLayer`` is one."""

    config: BioConfig
    synapse: Synapse

    @property
    def compiles(self) -> bool:
        """Returns True if kernels are to run on the layer compiled."""
        ...

    @property
    def weight(self) -> nn.Parameter:
        """Returns the layer's current weight."""
        ...

    def row(self, name: str) -> Row | None:
        """Returns the table's row of a method; None if it has none."""
        ...

    def get_parent(self) -> nn.Module:
        """Returns the layer."""
        ...

    def state_tensor(self, name: str) -> Any:
        """Returns the buffer or parameter of that name in the layer's state; None if there is none."""
        ...


def steps_of(bio: Bio, names: Iterable[str]) -> list[Step] | None:
    """Returns the rows' kernels with their hyper-parameters; None if a row has no kernel."""
    steps = []
    for name in names:
        row = bio.row(name)
        if row is None or row.kernel is None:
            return None
        step = _step(row, name, tuple([getattr(bio.config, field) for field in row.fields.values()]))
        if step is not None and step.kernel.by_leaf:
            return None
        if step is not None:
            steps.append(step)
    return steps


@lru_cache(maxsize=256)
def _step(row: Row, name: str, values: tuple[Any, ...]) -> Step | None:
    """Returns the same object for the same hyper-parameters, so that layers can be grouped by it."""
    return row.step(name, dict(zip(row.fields, values, strict=True)) | dict(row.fixed))


def collect(bio: Any, names: Sequence[str]) -> tuple[Layer, list[Step]] | None:
    """Returns a layer's tensors and the steps of some rows; None if the rows have to run on trees.

    Raises:
        RuntimeError: If a row cannot run on the layer as it is.
        AttributeError: If the configuration does not allow it.
    """
    steps = steps_of(bio, names)
    layer = None if steps is None else layer_of(bio, steps)
    for row in map(bio.row, names):
        if layer is None or row.requires is not None:
            check_method(bio, row)
    return None if layer is None or steps is None else (layer, steps)


def layer_of(bio: Bio, steps: Sequence[Step]) -> Layer | None:
    """Returns the layer's tensors that the steps need; None unless all are plain and as the conversion made them."""
    weight, synapse = bio.weight, bio.synapse
    rate, key = bio.state_tensor("fuzzy_learning_rate_parameters"), bio.state_tensor("key")
    needed = steps[0].needs if len(steps) == 1 else frozenset().union(*(step.needs for step in steps))
    operands: dict[str, Any] = {"weight": weight, "rate": rate}
    if not _plain(weight, weight) or not _plain(rate, weight) or not is_key(key) or key.device != weight.device:
        return None
    if bio.get_parent().__dict__.get("padding_idx") is not None:
        return None
    (place,) = places_of([bio])
    if place.buffer_name("mask") in place.owner._buffers and any("weight" in step.kernel.writes for step in steps):
        return None  # What does not exist stays zero.
    if "grad" in needed and (not weight.requires_grad or not _plain(weight.grad, weight)):
        return None
    if "updates" in needed:
        operands["updates"] = updates = bio.state_tensor("updates")
        if not is_plain(updates) or updates.dtype != torch.int64 or updates.ndim or updates.device != key.device:
            return None
    for name in ("sign", "activity"):
        if name in needed:
            value = bio.state_tensor(FIELDS[name])
            if name == "sign" and value is None and bio.config.apply_dales_principle:
                return None
            if value is not None and (not is_plain(value) or value.device != key.device):
                return None
            if name == "activity" and value is not None:
                if value.shape != (synapse.post_units(weight.shape),):
                    return None
                value = synapse.along_post(value, weight.shape)
            if value is not None and value.ndim and not broadcasts(value, weight):
                return None
            operands[name] = value
    return Layer(synapse.weight, key, operands, bio.compiles)


def _plain(value: Any, weight: Tensor) -> bool:
    """Returns True if kernels can write to a tensor and it fits the weight."""
    return is_alike(value, weight) and (value.is_contiguous() or not overlaps_itself(value))


class Ready:
    """Holds layers of plain memory with their steps, ready to run as often as their tensors are the same.

    No gradients are kept: at every call those of the weights are taken, or what stands for them.

    Args:
        entries: Layers, each with its tensors and all steps that are asked of it.
    """

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self.entries = [*entries]
        self.arranged: Arranged | None = None  # Made for the first run: a combined call runs another one.
        drawing = [[layer.key] * sum(step.kernel.draws != () for step in steps) for _, layer, steps in self.entries]
        self.keys = [
            [keys[at] for keys in drawing if at < len(keys)] for at in range(max(map(len, drawing), default=0))
        ]
        self.counters = [
            layer.operands["updates"] for _, layer, steps in self.entries for step in steps if step.kernel.advances
        ]
        self.parts: dict[tuple[int, ...], Ready] = {}

    def __bool__(self) -> bool:
        """Returns True if there is any layer."""
        return bool(self.entries)

    def part(self, chosen: Mapping[Any, Any]) -> "Ready":
        """Returns those of some layers."""
        entries = [entry for entry in self.entries if entry[0] in chosen]
        if len(entries) == len(self.entries):
            return self
        key = tuple([id(entry[0]) for entry in entries])
        if key not in self.parts:
            self.parts[key] = Ready(entries)
        return self.parts[key]

    def run(
        self,
        finite: Tensor | None = None,
        weights: Sequence[Tensor] | None = None,
        grads: Sequence[Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Runs every layer's steps on it, layers of one kind together, and moves their keys on.

        Args:
            finite: If given and False, nothing is changed.
            weights: Stand for the layers' weights.
            grads: Stand for their gradients.

        Returns:
            Which weights were replaced, by name of the weight, if a step says so.
        """
        if self.arranged is None:
            pairs = [(layer, steps) for _, layer, steps in self.entries]
            self.arranged = Arranged([(layer, [s for s in steps if takes_part(layer, s)]) for layer, steps in pairs])
        with torch.no_grad():
            masks = self.arranged.run(finite, weights, grads)
            for keys in self.keys:
                by = step_of(keys[0].device)
                by = by if finite is None else by * finite
                torch._foreach_add_(keys, [by] * len(keys))  # pyright: ignore[reportPrivateImportUsage]
            for counter in self.counters:
                counter.add_(1 if finite is None else finite)
        named = zip(self.entries, masks, strict=True)
        return {layer.name: mask for (_, layer, _), mask in named if mask is not None}


def finished(ready: Ready, row: Row | None, masks: Mapping[str, Tensor], finite: Tensor | None) -> dict[str, Any]:
    """Does the work that remains after a method has run; returns its result on each layer, by name of the weight."""
    if row is None or not (row.counts or row.replaces):
        return {layer.name: None for _, layer, _ in ready.entries}
    masks = masks if row.replaces else {}
    return {layer.name: bio.finish(row, masks.get(layer.name), finite) for bio, layer, _ in ready.entries}
