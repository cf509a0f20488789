"""Inputs of a step besides the members: their batches, and their keys of the step."""

from typing import Any

import torch
from torch import Tensor

from funcbio.rng import fold_in
from funcbio.sweeps._job import Job
from funcbio.sweeps._stream import Stream

STEPS_OF_KEYS = 64
"""Steps whose keys are made at once: deriving a key is many small operations, however many keys there are."""


def first_of(batch: Any) -> Any:
    """Returns the batch of the first member."""
    return batch[0] if isinstance(batch, Tensor) else tuple(part[0] for part in batch)


class StepKeys:
    """Derives the key of every member in every step.

    Args:
        keys: A key for every member.
    """

    def __init__(self, keys: Tensor) -> None:
        self.keys, self.block, self.block_keys = keys, -1, keys

    def at(self, number: int) -> Tensor:
        """Returns the keys of a step, shape ``(members, 2)``."""
        block, position = divmod(number, STEPS_OF_KEYS)
        if block != self.block:
            numbers = torch.arange(block * STEPS_OF_KEYS, (block + 1) * STEPS_OF_KEYS, device=self.keys.device)
            over_members = torch.vmap(fold_in, in_dims=(0, None))
            self.block, self.block_keys = block, torch.vmap(over_members, in_dims=(None, 0))(self.keys, numbers)
        return self.block_keys[position]


class Batches:
    """Lists what every member reads in every step: the indices of its examples, or a key if a function makes batches.

    Args:
        job: The sweep.
        keys: A key for every member.
        rows: The examples that every member learns from, shape ``(members, examples)``; None for all.
    """

    def __init__(self, job: Job, keys: Tensor, rows: Tensor | None = None) -> None:
        self.job, self.keys, self.epoch, self.order, self.rows = job, keys, -1, keys, rows
        self.steps = StepKeys(keys)
        self.stream = Stream(job.make, keys) if job.numbered else None

    def at(self, number: int) -> Any:
        """Returns the batch of a step: indices, keys ``(members, 2)``, or the tensors of a stream."""
        if self.stream is not None:
            return self.stream.at(number)
        if self.job.streams:
            return self.steps.at(number)
        epoch, position = divmod(number, self.job.batches)
        if epoch != self.epoch:
            order = self.job.order(self.keys, epoch)
            self.epoch, self.order = epoch, order if self.rows is None else self.rows.gather(1, order)
        size = self.job.batch_size
        return self.order[:, position * size : (position + 1) * size].contiguous()
