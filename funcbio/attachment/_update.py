"""The update-side rule, p <- p_old + factor * (p_new - p_old): what an optimizer did to weights, scaled afterwards."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from funcbio.attachment._optimizers import plain_step
from funcbio.attachment._places import Old, Ready, run
from funcbio.bio_module import BioModule

BUCKET = 1 << 22
"""Elements of which copies are held at a time, where the optimizer can make its step in parts."""


@torch.no_grad()
def copies(bios: Sequence[BioModule]) -> dict[BioModule, Tensor]:
    """The weights of some layers as they are now."""
    return {bio: bio.weight.detach().clone() for bio in bios}


@torch.no_grad()
def scale_update(ready: Sequence[Ready], old: Old, finite: bool | Tensor) -> dict[str, Tensor]:
    """Runs mechanisms on the update of some layers; returns which weights they replaced, if they do that.

    The update is made where the new weight lies, so that it takes no more memory than the copies.
    """
    replaced: dict[str, Tensor] = {}
    for bio, before in old.items():
        bio.weight.sub_(before)
    try:
        for group in ready:
            replaced.update(run(group, finite, old))
    finally:
        for bio, before in old.items():
            bio.weight.add_(before)
    return replaced


def buckets(bios: Sequence[BioModule], most: int) -> list[list[BioModule]]:
    """Cuts layers, in order, into buckets of at most ``most`` elements, or of one layer."""
    found: list[list[BioModule]] = []
    size = 0
    for bio in bios:
        size += bio.weight.numel()
        if not found or size > most:
            found.append([])
            size = bio.weight.numel()
        found[-1].append(bio)
    return found


def fits_in_one(bios: Sequence[BioModule]) -> bool:
    """Whether copies of all layers are no more than a bucket."""
    sizes = [bio.weight.numel() for bio in bios]
    return not sizes or sum(sizes) <= max(BUCKET, *sizes)


class Narrow:
    """An optimizer whose groups hold, for a while, only some of their parameters.

    Args:
        optimizer: An optimizer whose step can be made in parts.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer
        self.whole: list[tuple[dict[str, Any], list[Tensor]]] = [(g, g["params"]) for g in optimizer.param_groups]

    def to(self, keep: Callable[[Tensor], bool]) -> None:
        """Keeps some parameters of every group."""
        for group, params in self.whole:
            group["params"] = [parameter for parameter in params if keep(parameter)]

    def restore(self) -> None:
        """Gives every group its parameters back."""
        for group, params in self.whole:
            group["params"] = params


@contextmanager
def narrowed(optimizer: Optimizer) -> Iterator[Narrow]:
    """Makes an optimizer narrow; restores it only if something fails, because its own step is still to come."""
    narrow = Narrow(optimizer)
    try:
        yield narrow
    except BaseException:
        narrow.restore()
        raise


def step_in_buckets(
    optimizer: Optimizer, bios: Sequence[BioModule], ready: Sequence[Ready], finite: bool | Tensor
) -> tuple[Narrow, dict[str, Tensor]]:
    """Makes the optimizer's step bucket by bucket, so that only one bucket of old weights is held at a time.

    Returns:
        The optimizer with no parameters left, whose own step then does nothing, and which weights were replaced.
    """
    step, treated, replaced = plain_step(optimizer), {id(bio.weight) for bio in bios}, {}
    assert step is not None
    with narrowed(optimizer) as narrow:
        for number, bucket in enumerate(buckets(bios, max(BUCKET, *(bio.weight.numel() for bio in bios)))):
            own, first = {id(bio.weight) for bio in bucket}, number == 0
            # What is not treated goes with the first.
            narrow.to(lambda p, own=own, first=first: id(p) in own or (first and id(p) not in treated))
            old = copies(bucket)
            step(optimizer)
            replaced.update(scale_update(ready, old, finite))
        narrow.to(lambda _: False)
    return narrow, replaced
