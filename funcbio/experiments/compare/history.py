"""The results of a training loop."""

from typing import NamedTuple

import torch
from torch import Tensor

INTERFACES = ("functional", "classic")
VARIANTS = ("plain", "bio")
NAMES = {"plain": "plain", "bio": "bio-inspired"}

GOAL = 0.9
"""Test accuracy up to which the table counts epochs."""

SLOW = 0.1
"""Rate factor up to which a synapse counts as slow."""


class History(NamedTuple):
    """Holds the results of all runs of one variant through one interface.

    Attributes:
        interface: "functional" or "classic".
        variant: "plain" or "bio".
        lr: Learning rate.
        seeds: The seed of every run.
        test_accuracy: Share of test images that are right, shape ``(runs, epochs)``.
        train_loss: Mean loss of the epoch's batches, shape ``(runs, epochs)``.
        rate_start: Rate factors of all synapses of all runs before training; empty for "plain".
        rate_end: The same, after training.
        seconds: Wall time of all runs together, with the measuring.
    """

    interface: str
    variant: str
    lr: float
    seeds: list[int]
    test_accuracy: Tensor
    train_loss: Tensor
    rate_start: Tensor
    rate_end: Tensor
    seconds: float

    @property
    def final(self) -> Tensor:
        """Returns the test accuracy of every run after the last epoch."""
        return self.test_accuracy[:, -1]

    @property
    def epochs_to_goal(self) -> list[int | None]:
        """Returns the first epoch, counted from 1, after which a run had 90 % test accuracy; None if it never did."""
        reached = self.test_accuracy >= GOAL
        first = reached.int().argmax(dim=1) + 1
        return [int(epoch) if hit else None for epoch, hit in zip(first, reached.any(dim=1), strict=True)]


def stack(epochs: list[Tensor]) -> Tensor:
    """Joins one tensor of all runs for each epoch into ``(runs, epochs)``."""
    return torch.stack(epochs, dim=-1)


def share_slow(rates: Tensor) -> float:
    """Returns the share of the rate factors up to ``SLOW``."""
    return (rates <= SLOW).double().mean().item()
