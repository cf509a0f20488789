"""Running mechanisms on layers in one place of the training step, on all layers together where that is possible."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from funcbio.attachment._turnover import Masks, merge
from funcbio.engine._layers import Layer, Step
from funcbio.mechanisms._placed import Mechanism
from funcbio.objects._checks import check_method
from funcbio.objects._layer import BioLayer
from funcbio.objects._memory import check_apart
from funcbio.objects._ready import bring, run_calls

Group = list[Mechanism]


class Update(NamedTuple):
    """What stands for a layer's weight and gradient in the place of the update: memory that nobody else knows."""

    weight: Tensor
    update: Tensor


class Ready(NamedTuple):
    """Mechanisms that run as one call, the layers that are plain memory, and those that have to run one by one."""

    group: Group
    together: list[tuple[BioLayer, Layer, list[Step]]]
    alone: list[BioLayer]


def groups(mechanisms: Sequence[Mechanism]) -> list[Group]:
    """Groups mechanisms that follow one another and can run as one call: ours, of which at most one draws."""
    found: list[Group] = []
    for mechanism in mechanisms:
        last = found[-1] if found else []
        draws = mechanism.row.draws and any(other.row.draws for other in last)
        again = any(other.is_own or other.name == mechanism.name for other in last)
        if not last or mechanism.is_own or draws or again:
            found.append([mechanism])
        else:
            last.append(mechanism)
    return found


def prepare(group: Group, bios: Sequence[BioLayer]) -> Ready:
    """Returns what every layer brings to a group.

    Raises:
        RuntimeError: If a mechanism cannot run on a layer as it is; nothing has been changed then.
        AttributeError: If the configuration of a layer does not allow it.
    """
    together, alone = [], []
    for bio in bios:
        own = [mechanism for mechanism in group if takes_part(bio, mechanism)]
        brought = _bring(bio, own) if own else None
        if brought is not None:
            together.append((bio, *brought))
        elif own:
            alone.append(bio)
    calls = [*((bio, steps) for bio, _, steps in together), *((bio, None) for bio in alone)]
    check_apart(calls, on_update=group[0].where == "update")
    return Ready(group, together, alone)


def may_replace(ready: Ready) -> bool:
    """Returns True if a group may change weights; nothing is known of what runs on layers one by one."""
    return bool(ready.alone) or any("weight" in step.kernel.writes for *_, steps in ready.together for step in steps)


def takes_part(bio: BioLayer, mechanism: Mechanism) -> bool:
    """Returns True if a mechanism runs on a layer: not on frozen ones, nor without a gradient or units to see."""
    if not bio.participates:
        return False
    if mechanism.row.per_unit and not bio.synapse.observable:
        return False
    return bio.has_gradient() or not mechanism.row.needs_grad


def _bring(bio: BioLayer, own: Group) -> tuple[Layer, list[Step]] | None:
    names = [mechanism.name for mechanism in own]
    if own[0].is_own:
        check_method(bio, own[0].row)
        return None
    brought = bring(bio, names)
    return brought if bio.inherits(names) else None


@torch.no_grad()
def run(ready: Ready, finite: bool | Tensor = True, updates: Mapping[BioLayer, Update] | None = None) -> Masks:
    """Runs a group on its layers.

    Args:
        ready: What ``prepare`` found.
        finite: If it is False, nothing is changed.
        updates: In the place of the update, what stands for weight and gradient. Layers not in it are passed over.

    Returns:
        Which weights were replaced, by name of the weight, if a mechanism says so.
    """
    together = [item for item in ready.together if updates is None or item[0] in updates]
    flag = None if isinstance(finite, bool) else finite
    masks = dict(run_calls([(_around(bio, layer, updates), steps) for bio, layer, steps in together], flag))
    for bio, layer, steps in together:
        for step in steps:
            bio.finish(bio.row(step.name), masks.get(layer.name), flag)
    alone = [bio for bio in ready.alone if updates is None or bio in updates]
    if alone and not bool(finite):
        return masks
    for bio in alone:
        for mechanism in ready.group:
            if takes_part(bio, mechanism):
                mask = _call(bio, mechanism, None if updates is None else updates[bio])
                merge(masks, {} if mask is None else {bio.synapse.weight: mask})
    return masks


def _around(bio: BioLayer, layer: Layer, updates: Mapping[BioLayer, Update] | None) -> Layer:
    """Returns the layer with the old weight as its weight, and the update in the gradient's place."""
    if updates is None:
        return layer
    weight, update = updates[bio]
    return layer._replace(operands={**layer.operands, "weight": weight, "grad": update})


def _call(bio: BioLayer, mechanism: Mechanism, around: Update | None) -> Tensor | None:
    """Runs a mechanism on a layer by itself."""
    if mechanism.is_own:
        return bio.run_row(mechanism.row, around=around)
    if around is None:
        return getattr(bio, mechanism.name)()
    if bio.inherits([mechanism.name]):
        return bio.run_row(bio.row(mechanism.name) or mechanism.row, around=around)
    return _exchanged(bio, mechanism.name, around)


def _exchanged(bio: BioLayer, name: str, around: Update) -> Tensor | None:
    """Calls a method of a subclass, which sees nothing but the layer: with its old weight, and the update as gradient.

    If it fails, the step puts both back.
    """
    parameter, (weight, update) = bio.weight, around
    new, grad = parameter.detach().clone(), parameter.grad
    parameter.copy_(weight)
    parameter.grad = update
    mask = getattr(bio, name)()
    weight.copy_(parameter)
    if parameter.grad is not update and parameter.grad is not None:
        update.copy_(parameter.grad)
    parameter.grad = grad
    parameter.copy_(new)
    return mask
