"""Shuffled labels: every task gives the same few images new labels at random, to be learned by heart.

As in Lyle et al. (arXiv 2303.01486) and Kumar, Marklund and Van Roy (arXiv 2308.11958), "random label MNIST": there
1,200 images for 400 epochs a task, here fewer images for as many epochs as a short task holds.
"""

from collections.abc import Sequence
from functools import partial

from torch import Tensor
from torch.nn import functional as F

from funcbio import Key, fold_in, permutation
from funcbio.experiments.arena.networks import convolutional, perceptron
from funcbio.experiments.arena.tasks.images import BATCH, Pool, batch_key, below, task_key
from funcbio.experiments.arena.tasks.row import Row, Shown
from funcbio.experiments.nets import CLASSES
from funcbio.experiments.sweep_parts import accuracy

TASK_STEPS = 50
SHOWN, SHOWN_CNN = Shown("shuffled labels"), Shown("shuffled labels, CNN")

IMAGES = 80
"""Images of a task: ten epochs of them make 50 batches."""


def batch(pool: Pool, key: Key, step: Tensor) -> Sequence[Tensor]:
    """Makes the batch of a step."""
    chosen = permutation(fold_in(key, "images"), len(pool.y))[:IMAGES]
    labels = below(task_key(key, step // TASK_STEPS), CLASSES, IMAGES)
    picked = below(batch_key(key, step), IMAGES, BATCH)
    return pool.x[chosen[picked]], labels[picked]


def row(pool: Pool) -> Row:
    """Returns the row for a perceptron."""
    network, make = partial(perceptron, pool.x.shape[1]), partial(batch, pool)
    return Row("labels", SHOWN, make, network, F.cross_entropy, accuracy)


def row_of_cnn(pool: Pool) -> Row:
    """Returns the same for a small convolutional network."""
    network, make = partial(convolutional, pool.side), partial(batch, pool)
    return Row("labels-cnn", SHOWN_CNN, make, network, F.cross_entropy, accuracy)
