"""Permuted pixels: every task shows the same images with the pixels in a new order.

As in Goodfellow et al. (arXiv 1312.6211) and, online, Kumar, Marklund and Van Roy (arXiv 2308.11958): two hidden layers
of 100 rectified units, batches of 16, right answers counted before learning from them. Here batches are drawn with
replacement, and a task is shorter.
"""

from collections.abc import Sequence
from functools import partial

from torch import Tensor
from torch.nn import functional as F

from funcbio import Key, permutation
from funcbio.experiments.arena.networks import perceptron
from funcbio.experiments.arena.tasks.images import BATCH, Pool, batch_key, below, task_key
from funcbio.experiments.arena.tasks.row import Row, Shown
from funcbio.experiments.sweep_parts import accuracy

TASK_STEPS = 50
SHOWN, SHOWN_NORM = Shown("permuted pixels"), Shown("permuted pixels, network with LayerNorm")


def batch(pool: Pool, key: Key, step: Tensor) -> Sequence[Tensor]:
    """Makes the batch of a step."""
    rows = below(batch_key(key, step), len(pool.y), BATCH)
    order = permutation(task_key(key, step // TASK_STEPS), pool.x.shape[1])
    return pool.x[rows][:, order], pool.y[rows]


def row(pool: Pool) -> Row:
    """Returns the row for a perceptron."""
    network, make = partial(perceptron, pool.x.shape[1]), partial(batch, pool)
    return Row("pixels", SHOWN, make, network, F.cross_entropy, accuracy)


def row_with_norm(pool: Pool) -> Row:
    """Returns the same for a perceptron that has layer norms whatever the method."""
    network, make = partial(perceptron, pool.x.shape[1], norm=True), partial(batch, pool)
    return Row("pixels-norm", SHOWN_NORM, make, lambda _: network(), F.cross_entropy, accuracy, normed=True)
