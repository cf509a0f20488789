"""Rows of the table on many layers at once: what every layer brings, checked before anything is changed."""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from funcbio.anatomy._synapses import Synapse
from funcbio.bio_config import BioConfig
from funcbio.engine._compiled import run_fused
from funcbio.engine._in_place import Layer, Step, is_alike, is_key, run_in_place
from funcbio.engine._kernel import optional
from funcbio.mechanisms import ROWS, Row
from funcbio.objects._checks import broadcasts, check_method
from funcbio.objects._memory import FIELDS
from funcbio.rng import step_of
from funcbio.tensors._overlap import overlaps_itself
from funcbio.tensors._sharding import is_plain

OPERANDS = ("weight", "grad", "rate", "sign", "activity")


class Bio(Protocol):
    """What runs: a ``BioLayer``."""

    config: BioConfig
    synapse: Synapse
    compiles: bool

    @property
    def weight(self) -> nn.Parameter:
        """The layer's weight, as it is now."""
        ...

    def row(self, name: str) -> Row | None:
        """Returns what the table holds of a method; None if it holds nothing."""
        ...

    def get_parent(self) -> nn.Module:
        """Returns the layer."""
        ...

    def held(self, name: str) -> Any:
        """A buffer, or a parameter, of the layer's state; None if it has none of that name."""
        ...


def steps_of(bio: Bio, names: Iterable[str]) -> list[Step] | None:
    """Returns the rows' kernels with their hyper-parameters; None if a row has no kernel."""
    steps = []
    for name in names:
        row = bio.row(name)
        if row is None or row.kernel is None:
            return None
        step = _step(name, tuple([getattr(bio.config, field) for field in row.fields.values()]))
        if step is not None:
            steps.append(step)
    return steps


@lru_cache(maxsize=256)
def _step(name: str, values: tuple[Any, ...]) -> Step | None:
    """Returns the same object for the same hyper-parameters, so that layers can be grouped by it."""
    row = ROWS[name]
    return row.step(name, dict(zip(row.fields, values, strict=True)) | dict(row.fixed))


def bring(bio: Any, names: Sequence[str]) -> tuple[Layer, list[Step]] | None:
    """What a layer brings to some rows; None if they have to run on trees.

    Raises:
        RuntimeError: If a row cannot run on the layer as it is.
        AttributeError: If the configuration does not allow it.
    """
    steps = steps_of(bio, names)
    layer = None if steps is None else prepare(bio, steps)
    for row in map(bio.row, names):
        if layer is None or row.requires is not None:
            check_method(bio, row)
    return None if layer is None or steps is None else (layer, steps)


def prepare(bio: Bio, steps: Sequence[Step]) -> Layer | None:
    """What a layer brings to the steps; None if its tensors are not plain ones, all as the conversion made them."""
    weight, synapse = bio.weight, bio.synapse
    rate, key = bio.held("fuzzy_learning_rate_parameters"), bio.held("key")
    needed = steps[0].needs if len(steps) == 1 else frozenset().union(*(step.needs for step in steps))
    operands: dict[str, Any] = {"weight": weight, "rate": rate}
    if not _plain(weight, weight) or not _plain(rate, weight) or not is_key(key) or key.device != weight.device:
        return None
    if bio.get_parent().__dict__.get("padding_idx") is not None:
        return None
    if "grad" in needed:
        operands["grad"] = weight.grad
        if not weight.requires_grad or not _plain(weight.grad, weight):
            return None
    if "updates" in needed:
        operands["updates"] = updates = bio.held("updates")
        if not is_plain(updates) or updates.dtype != torch.int64 or updates.ndim or updates.device != key.device:
            return None
    for name in ("sign", "activity"):
        if name in needed:
            value = bio.held(FIELDS[name])
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
    """Whether a tensor is one that kernels can write to, and fits the weight."""
    return is_alike(value, weight) and (value.is_contiguous() or not overlaps_itself(value))


def takes_part(layer: Layer, step: Step) -> bool:
    """Whether a layer has the marks that a kernel asks for."""
    marks = [layer.operands[name] for name in step.kernel.marks]
    return layer.operands["weight"].numel() > 0 and all(mark is not None and mark.ndim > 0 for mark in marks)


def run_layers(layers: Sequence[tuple[Layer, Sequence[Step]]], finite: Tensor | None = None) -> Mapping[str, Tensor]:
    """Runs every layer's steps on it, layers of one kind together, and moves their keys on.

    Returns:
        Which weights were replaced, by name of the weight, if a step says so.
    """
    groups: dict[Any, tuple[list[Step], list[Layer]]] = {}
    for layer, asked in layers:
        steps = [step for step in asked if takes_part(layer, step)]
        present = {name: optional("?", layer.operands.get(name)) for name in OPERANDS}
        types = [None if value is None else value.dtype for value in present.values()]
        kind = (*map(id, steps), layer.compiles, layer.operands["weight"].device, *types)
        groups.setdefault(kind, (steps, []))[1].append(layer)
    replaced: dict[str, Tensor] = {}
    for steps, group in groups.values():
        if steps:
            columns = run_in_place(steps, group, finite, run_fused if group[0].compiles else None)
            replaced.update(zip((layer.name for layer in group), columns.get("replaced", ()), strict=False))
    for layer, asked in layers:
        for step in asked:
            _move_on(layer, step, finite)
    return replaced


def _move_on(layer: Layer, step: Step, finite: Tensor | None) -> None:
    """Goes to the next key if this one was used, and counts updates of the rates."""
    if step.kernel.draws:
        by = step_of(layer.key.device)
        layer.key.add_(by if finite is None else by * finite)
    if step.kernel.advances:
        layer.operands["updates"].add_(1 if finite is None else finite)
