"""Running mechanisms on layers in one place of the training step, on all layers together where that is possible."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from funcbio.attachment._turnover import Masks, merge
from funcbio.mechanisms import Row
from funcbio.mechanisms._placed import Mechanism
from funcbio.objects._calls import Prepared, prepare, takes_part
from funcbio.objects._kept import check_part
from funcbio.objects._layer import BioLayer
from funcbio.objects._on_trees import run_on_trees
from funcbio.objects._ready import Ready, finished

Group = list[Mechanism]


class Update(NamedTuple):
    """Stands for a layer's weight and gradient while mechanisms act on the update, in memory of its own."""

    weight: Tensor
    update: Tensor


class ReadyGroup(NamedTuple):
    """Holds mechanisms that run as one call, and the layers that have been looked at for them."""

    group: Group
    prepared: Prepared


def groups(mechanisms: Sequence[Mechanism]) -> list[Group]:
    """Groups mechanisms that follow one another and can run as one call: ours, of which at most one draws."""
    grouped: list[Group] = []
    for mechanism in mechanisms:
        last = grouped[-1] if grouped else []
        draws = mechanism.row.draws and any(other.row.draws for other in last)
        again = any(takes_trees(other) or other.name == mechanism.name for other in last)
        if not last or takes_trees(mechanism) or draws or again:
            grouped.append([mechanism])
        else:
            last.append(mechanism)
    return grouped


def takes_trees(mechanism: Mechanism) -> bool:
    """Returns True if a mechanism sees trees: a function of the user's own, or one that acts on all parameters."""
    return mechanism.is_own or mechanism.row.on_trees


def look(group: Group, bios: Sequence[BioLayer]) -> ReadyGroup:
    """Checks every layer for a group, and returns the group with the tensors that it runs on.

    Raises:
        RuntimeError: If a mechanism cannot run on a layer as it is; nothing has been changed then.
        AttributeError: If the configuration of a layer does not allow it.
    """
    if group[0].row.on_trees:
        row = group[0].row
        chosen = [b for b in bios if b.participates and (b.has_gradient() or not row.reads_gradient(b.config))]
        for bio in chosen:
            check_part(bio, group[0].row)
        return ReadyGroup(group, Prepared(chosen, Ready([]), chosen))
    bios = [bio for bio in bios if isinstance(bio, BioLayer)]
    asked = [(bio, [(m.name, row_of(bio, m)) for m in group if takes_part(bio, row_of(bio, m))]) for bio in bios]
    chosen = ((bio, methods) for bio, methods in asked if methods)
    return ReadyGroup(group, prepare(chosen, on_update=group[0].where == "update"))


def row_of(bio: BioLayer, mechanism: Mechanism) -> Row:
    """Returns the layer's row of a method, or the row of a function of the user's own."""
    return mechanism.row if mechanism.is_own else bio.row(mechanism.name) or mechanism.row


def may_replace(ready: ReadyGroup) -> bool:
    """Returns True if a group may change weights; also if it runs on layers one by one, as that is not known."""
    _, layers, alone = ready.prepared
    return bool(alone) or any("weight" in step.kernel.writes for *_, steps in layers.entries for step in steps)


@torch.no_grad()
def run(ready: ReadyGroup, finite: bool | Tensor = True, updates: Mapping[BioLayer, Update] | None = None) -> Masks:
    """Runs a group on its layers.

    Args:
        ready: The group, and its layers as ``look`` has checked them.
        finite: If it is False, nothing is changed.
        updates: In the place of the update, what stands for weight and gradient. Layers not in it are passed over.

    Returns:
        Which weights were replaced, by name of the weight, if a mechanism says so.
    """
    plain = ready.prepared.ready if updates is None else ready.prepared.ready.part(updates)
    flag = None if isinstance(finite, bool) else finite
    if updates is None:
        masks = plain.run(flag)
    else:
        around = [updates[bio] for bio, _, _ in plain.entries]
        masks = plain.run(flag, [one.weight for one in around], [one.update for one in around])
    for mechanism in ready.group:
        if mechanism.row.counts:
            finished(plain, mechanism.row, masks, flag)
    alone = [bio for bio in ready.prepared.alone if updates is None or bio in updates]
    if alone and not bool(finite):
        return masks
    for mechanism in ready.group if alone else ():
        row = mechanism.row
        chosen = [bio for bio in alone if row.on_trees or takes_part(bio, row_of(bio, mechanism))]
        if takes_trees(mechanism):  # It sees all of them as one tree.
            after = mechanism.where == "after"
            merge(masks, run_on_trees(chosen, mechanism.row, updates, sees_gradients=after) if chosen else {})
            continue
        for bio in chosen:
            mask = _call(bio, mechanism, None if updates is None else updates[bio])
            merge(masks, {} if mask is None else {bio.synapse.weight: mask})
    return masks


def _call(bio: BioLayer, mechanism: Mechanism, around: Update | None) -> Tensor | None:
    """Runs a documented method on a layer by itself."""
    if around is None:
        return getattr(bio, mechanism.name)()
    if bio.inherits([mechanism.name]):
        return bio.run_row(row_of(bio, mechanism), around=around)
    return _exchanged(bio, mechanism.name, around)


def _exchanged(bio: BioLayer, name: str, around: Update) -> Tensor | None:
    """Calls a method of a subclass on the layer, with its old weight in place and the update as its gradient.

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
