"""Optimizers that go up: mechanisms see the gradient of what is minimized, as torch's weight decay does."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch.optim import Optimizer

from funcbio.attachment._optimizers import groups_by_weight
from funcbio.objects._layer import BioLayer


@contextmanager
def minimized(optimizer: Optimizer | None, bios: Sequence[BioLayer]) -> Iterator[None]:
    """Turns the gradients of groups with ``maximize=True`` round, and back at the end."""
    rising = optimizer is not None and any(group.get("maximize") for group in optimizer.param_groups)
    groups = groups_by_weight(optimizer) if rising else {}
    turned = [bio.weight for bio in bios if groups.get(id(bio.weight), {}).get("maximize")] if rising else []
    _turn(turned)
    try:
        yield
    finally:
        _turn(turned)


@torch.no_grad()
def _turn(weights: Sequence[torch.Tensor]) -> None:
    for weight in weights:
        if weight.grad is not None:  # In place: what has looked at the tensors goes on with them.
            weight.grad.neg_()
