"""Rows of the table on many layers at once: tensors and steps of every layer are checked before any is changed."""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from funcbio.anatomy._synapses import Synapse
from funcbio.bio_config import BioConfig
from funcbio.engine._layers import Layer, Step, broadcasts, is_alike, is_key, takes_part
from funcbio.engine._run import run_layers
from funcbio.mechanisms import Row
from funcbio.objects._checks import check_method
from funcbio.objects._memory import FIELDS
from funcbio.rng import step_of
from funcbio.tensors._overlap import overlaps_itself
from funcbio.tensors._sharding import is_plain


class Bio(Protocol):
    """Describes the layers that the rows run on; a ``BioLayer`` is one."""

    config: BioConfig
    synapse: Synapse
    compiles: bool

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
    if "grad" in needed:
        operands["grad"] = weight.grad
        if not weight.requires_grad or not _plain(weight.grad, weight):
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


def run_calls(calls: Sequence[tuple[Layer, Sequence[Step]]], finite: Tensor | None = None) -> dict[str, Tensor]:
    """Runs every layer's steps on it, layers of one kind together, and moves their keys on.

    Args:
        calls: Layers of plain memory, with all steps that are asked of them.
        finite: If given and False, nothing is changed.

    Returns:
        Which weights were replaced, by name of the weight, if a step says so.
    """
    masks = run_layers([(layer, [step for step in steps if takes_part(layer, step)]) for layer, steps in calls], finite)
    for layer, steps in calls:
        for step in steps:
            if step.kernel.draws:
                by = step_of(layer.key.device)
                layer.key.add_(by if finite is None else by * finite)
            if step.kernel.advances:
                layer.operands["updates"].add_(1 if finite is None else finite)
    return {layer.name: mask for (layer, _), mask in zip(calls, masks, strict=True) if mask is not None}


def finished(
    ready: Iterable[tuple[Any, Layer, Any]], row: Row | None, masks: Mapping[str, Tensor], finite: Tensor | None
) -> dict[str, Any]:
    """Does the work that remains after a method has run; returns its result on each layer, by name of the weight."""
    if row is None or not (row.counts or row.replaces):
        return {layer.name: None for _, layer, _ in ready}
    masks = masks if row.replaces else {}
    return {layer.name: bio.finish(row, masks.get(layer.name), finite) for bio, layer, _ in ready}
