"""Running mechanisms on layers in one place of the training step, on all layers together where that is possible."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor

from funcbio.bio_checks import check_gradient, check_method
from funcbio.bio_memory import check_apart
from funcbio.bio_method import inherits
from funcbio.bio_module import BioModule
from funcbio.bio_run import bring, run_layers
from funcbio.inplace import Layer, Step
from funcbio.mechanism import Mechanism

Old = Mapping[BioModule, Tensor]
"""The weights before the optimizer's step; the layers' own then hold the update."""
Group = list[Mechanism]


class Ready(NamedTuple):
    """Mechanisms that run as one call, the layers that are plain memory, and those that have to run one by one."""

    group: Group
    together: list[tuple[BioModule, Layer, list[Step]]]
    alone: list[BioModule]


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


def prepare(group: Group, bios: Sequence[BioModule]) -> Ready:
    """What every layer brings to a group.

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


def takes_part(bio: BioModule, mechanism: Mechanism) -> bool:
    """Whether a mechanism runs on a layer: frozen ones, and those without gradient or units to see, are passed over."""
    if not bio.participates:
        return False
    if mechanism.feature == "scale_grad" and not bio.synapse.observable:
        return False
    return bio.has_gradient() or not mechanism.row.needs_grad


def _bring(bio: BioModule, own: Group) -> tuple[Layer, list[Step]] | None:
    names = [mechanism.name for mechanism in own]
    if own[0].is_own:
        check_method(bio, "")
        if own[0].row.needs_grad:
            check_gradient(bio, "")
        return None
    brought = bring(bio, [(name, ()) for name in names])
    return brought if inherits(bio, names) else None


@torch.no_grad()
def run(ready: Ready, finite: bool | Tensor = True, old: Old | None = None) -> dict[str, Tensor]:
    """Runs a group on its layers.

    Args:
        ready: What ``prepare`` found.
        finite: If it is False, nothing is changed.
        old: In the place of the update, the weights before the step. Layers not in it are passed over.

    Returns:
        Which weights were replaced, by name of the weight, if a mechanism says so.
    """
    together = [item for item in ready.together if old is None or item[0] in old]
    flag = None if isinstance(finite, bool) else finite
    found = run_layers([(_around(bio, layer, old), steps) for bio, layer, steps in together], flag)
    replaced: dict[str, Tensor] = dict(found)
    for bio, layer, steps in together:
        for step in steps:
            bio.settle(step.name, found.get(layer.name), flag)
    alone = [bio for bio in ready.alone if old is None or bio in old]
    if alone and not bool(finite):
        return replaced
    for bio in alone:
        with nullcontext() if old is None else exchanged(bio.weight, old[bio]):
            for mechanism in ready.group:
                mask = _call(bio, mechanism) if takes_part(bio, mechanism) else None
                if mask is not None:
                    replaced[bio.synapse.weight] = mask
    return replaced


def _around(bio: BioModule, layer: Layer, old: Old | None) -> Layer:
    """The layer with the old weight as its weight, and the update in the gradient's place."""
    if old is None:
        return layer
    return layer._replace(operands={**layer.operands, "weight": old[bio], "grad": bio.weight.detach()})


@contextmanager
def exchanged(weight: Tensor, old: Tensor) -> Iterator[None]:
    """For a moment a weight holds its old values, and its gradient the update that stood in its place."""
    grad, weight.grad = weight.grad, weight.detach().clone()
    weight.copy_(old)
    try:
        yield
    finally:
        old.copy_(weight)
        weight.copy_(weight.grad)
        weight.grad = grad


def _call(bio: BioModule, mechanism: Mechanism) -> Any:
    if mechanism.is_own:
        return bio.run_row(mechanism.row)
    method = getattr(bio, mechanism.name, None)  # Of a subclass, perhaps.
    return bio.run(mechanism.name) if method is None else method()
