"""Batches of data that change over time, made for many steps at once."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

BLOCK_STEPS = 1024
"""Most steps whose batches are made at once: deriving a key is many small operations, however many keys there are."""

BLOCK_BYTES = 1 << 26
"""Most memory of the batches that are made at once."""


class Stream:
    """Makes the batches of every member by a function of its key and the number of the step.

    Args:
        make: ``make(key, step)``, which returns tensors: inputs and target.
        keys: A key for every member.
    """

    def __init__(self, make: Callable[..., Sequence[Tensor]], keys: Tensor) -> None:
        over_members = torch.vmap(make, in_dims=(0, None))
        self.over_steps = torch.vmap(over_members, in_dims=(None, 0))
        self.keys, self.block, self.size = keys, -1, 0
        self.batches: Sequence[Tensor] = ()

    @torch.no_grad()
    def at(self, number: int) -> tuple[Tensor, ...]:
        """Returns the batch of a step: tensors with a leading dimension of members."""
        if not self.size:
            first = self.made(number, 1)
            step_bytes = sum(leaf.numel() * leaf.element_size() for leaf in first)
            self.size = max(1, min(BLOCK_STEPS, BLOCK_BYTES // max(step_bytes, 1)))
        block, position = divmod(number, self.size)
        if block != self.block:
            self.block, self.batches = block, self.made(block * self.size, self.size)
        return tuple(part[position].clone() for part in self.batches)

    def made(self, first: int, count: int) -> Sequence[Tensor]:
        """Returns the batches of some steps: tensors with leading dimensions of steps and members."""
        return self.over_steps(self.keys, torch.arange(first, first + count, device=self.keys.device))
