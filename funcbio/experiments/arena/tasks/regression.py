"""Slowly-changing regression: a small network follows the function of a larger one while its inputs drift.

As in Dohare et al. (Nature 632, 2024) and their ``slowly_changing_regression``: 20 bits, of which 15 are drawn anew
every 10,000 steps and the others in every step; the target is a network of 100 threshold units with weights +1 and -1;
five rectified units learn it, one example at a time. In their figure the error of plain SGD at rate 0.01 is about 0.62
in the first 20,000 steps and 1.25 after a million; at 0.001 it is 0.84 and 0.88.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from funcbio import Key, fold_in, uniform
from funcbio.experiments.arena.networks import regressor
from funcbio.experiments.arena.tasks.images import Pool, batch_key, task_key
from funcbio.experiments.arena.tasks.row import Row, Shown

BITS, SLOW_BITS, TASK_STEPS = 20, 15, 10_000
UNITS, HIDDEN, BETA = 100, 5, 0.7
SHOWN = Shown("slowly-changing regression", "squared error", 1.0, ".3f", sign=-1, images=False)

LENGTH = 20
"""Steps for each step of the other rows: one example at a time takes longer to tell."""


def bits(key: Key, shape: tuple[int, ...]) -> Tensor:
    """Draws zeros and ones."""
    return (uniform(key, shape) < 0.5).float()


def signs(key: Key, shape: tuple[int, ...]) -> Tensor:
    """Draws numbers that are +1 or -1."""
    return 2.0 * bits(key, shape) - 1.0


def target(key: Key, x: Tensor) -> Tensor:
    """Returns the output of a member's own target network; a unit fires from a share of matching bits on."""
    into, bias = signs(fold_in(key, "into"), (UNITS, BITS)), signs(fold_in(key, "bias"), (UNITS,))
    threshold = BETA * (BITS + 1) - (BITS - into.sum(1) + bias) / 2
    fires = (into @ x + bias > threshold).float()
    return signs(fold_in(key, "out"), (UNITS,)) @ fires + signs(fold_in(key, "last"), ())


def batch(key: Key, step: Tensor) -> Sequence[Tensor]:
    """Makes the example of a step."""
    slow = bits(task_key(key, step // TASK_STEPS), (SLOW_BITS,))
    fast = bits(batch_key(key, step), (BITS - SLOW_BITS,))
    x = torch.cat([slow, fast])
    return x[None], target(fold_in(key, "target"), x).reshape(1, 1)


def error(output: Tensor, goal: Tensor) -> Tensor:
    """Returns the squared error."""
    return F.mse_loss(output, goal)


def row(pool: Pool) -> Row:
    """Returns the row; it needs no images."""
    del pool
    network = partial(regressor, BITS, HIDDEN)
    return Row("regression", SHOWN, batch, network, F.mse_loss, error, length=LENGTH)
