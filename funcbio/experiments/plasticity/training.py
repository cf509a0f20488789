"""Trains all members of one method through a row of tasks."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, vmap

import funcbio
from funcbio.experiments.plasticity.crowd import Crowd
from funcbio.experiments.plasticity.measures import measure
from funcbio.experiments.plasticity.methods import Method
from funcbio.experiments.plasticity.tasks import Tasks

SHOWN = 256
"""Most images of a task that units are measured on."""


def train(
    row: Tasks,
    method: Method,
    optimizer: str,
    seeds: Sequence[int],
    numbers: dict[str, Tensor],
    *,
    tasks: int,
    measured_every: int,
    compile: bool,
    tick: Callable[[], None],
) -> dict[str, Tensor]:
    """Trains one member for every seed, all at once.

    Args:
        row: The tasks.
        method: The method.
        optimizer: "sgd" or "adam".
        seeds: One for every member; equal ones see the same tasks from the same start.
        numbers: Values of the method's numbers, one for every member.
        tasks: How many tasks.
        measured_every: Tasks between two measurements of the network.
        compile: Whether steps are compiled.
        tick: Called after every task.

    Returns:
        "accuracy": share of right answers before learning from them, shape ``(members, tasks)``; and each of
        ``MEASURES``, shape ``(members, tasks / measured_every)``.
    """
    keys = vmap(funcbio.key)(torch.tensor(seeds))
    crowd, draw = Crowd(method, optimizer, keys, numbers, compile=compile), vmap(row.draw, in_dims=(0, None))
    accuracy, measured = [], []
    for task in range(tasks):
        x, y = (part.movedim(1, 0).contiguous() for part in draw(keys, torch.tensor(task)))
        rights = [crowd.step(images, labels) for images, labels in zip(x, y, strict=True)]
        accuracy.append(torch.stack(rights).mean(dim=0))
        if (task + 1) % measured_every == 0:
            images = x[-(SHOWN // x.shape[2]) :].movedim(1, 0).flatten(1, 2)
            measured.append(vmap(measure)(crowd.members.params, crowd.members.rate, images))
        tick()
    measures = {name: torch.stack([one[name] for one in measured], dim=1) for name in measured[0]}
    return {"accuracy": torch.stack(accuracy, dim=1), **measures}
