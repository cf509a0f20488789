"""Growing classes: classes come two at a time and stay; when all are there, it begins anew in another order.

After the class-incremental CIFAR-100 of Dohare et al. (Nature 632, 2024), where five classes are added at a time; here
all of them leave after the last stage, so that hundreds of rounds test how well a network still learns. The label of a
class is the place at which it came.
"""

from collections.abc import Sequence
from functools import partial

from torch import Tensor
from torch.nn import functional as F

from funcbio import Key, fold_in, permutation
from funcbio.experiments.arena.networks import perceptron
from funcbio.experiments.arena.tasks.images import BATCH, Pool, batch_key, below, task_key
from funcbio.experiments.arena.tasks.row import Row, Shown
from funcbio.experiments.nets import CLASSES
from funcbio.experiments.sweep_parts import accuracy

STAGE_STEPS = 20

ADDED = 2
"""Classes that come at a time."""

STAGES = CLASSES // ADDED
SHOWN = Shown("growing classes")


def batch(pool: Pool, key: Key, step: Tensor) -> Sequence[Tensor]:
    """Makes the batch of a step."""
    stage, drawn = (step // STAGE_STEPS) % STAGES, batch_key(key, step)
    order = permutation(task_key(key, step // (STAGE_STEPS * STAGES)), CLASSES)
    label = below(fold_in(drawn, "class"), ADDED * (stage + 1), BATCH)
    kinds = order[label]
    number = below(fold_in(drawn, "image"), pool.counts[kinds], BATCH)
    return pool.x[pool.members[kinds, number]], label


def row(pool: Pool) -> Row:
    """Returns the row for a perceptron."""
    network, make = partial(perceptron, pool.x.shape[1]), partial(batch, pool)
    return Row("classes", SHOWN, make, network, F.cross_entropy, accuracy)
