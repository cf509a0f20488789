"""Endless rows of tasks made from the handwritten digits; a member's key determines all draws."""

from dataclasses import dataclass

import torch
from torch import Tensor

import funcbio
from funcbio import Key, fold_in, permutation
from funcbio.experiments.nets import CLASSES, PIXELS

BATCH = 16


@dataclass(frozen=True)
class Tasks:
    """Describes one row of tasks.

    "permuted": every task shows all images once, with the pixels in a new order.
    "shuffled": every task gives the same few images new labels at random, to be learned by heart in several epochs.

    Attributes:
        benchmark: "permuted" or "shuffled".
        x: The images, shape ``(count, 64)``.
        y: Their digits.
        images: How many of the images a member is shown.
        epochs: How often it is shown them in a task.
    """

    benchmark: str
    x: Tensor
    y: Tensor
    images: int
    epochs: int

    @property
    def steps(self) -> int:
        """Returns the number of batches in a task; a last batch that is not full is left out."""
        return self.epochs * (self.images // BATCH)

    def draw(self, key: Key, task: Tensor) -> tuple[Tensor, Tensor]:
        """Makes one task of one member: batches, shape ``(steps, 16, 64)``, and labels, shape ``(steps, 16)``."""
        task_key = fold_in(fold_in(key, "task"), task)
        chosen = permutation(fold_in(key, "images"), len(self.y))[: self.images]
        orders = torch.stack(
            [permutation(fold_in(task_key, f"epoch {epoch}"), self.images) for epoch in range(self.epochs)]
        )
        shown = orders[:, : self.images // BATCH * BATCH].flatten()
        if self.benchmark == "permuted":
            x = self.x[chosen[shown]][:, permutation(fold_in(task_key, "pixels"), PIXELS)]
            y = self.y[chosen[shown]]
        else:
            x = self.x[chosen[shown]]
            y = (funcbio.uniform(fold_in(task_key, "labels"), (self.images,)) * CLASSES).to(torch.int64)[shown]
        return x.reshape(self.steps, BATCH, PIXELS), y.reshape(self.steps, BATCH)
