"""A check that there is something to learn: that the loss depends on the parameters."""

from dataclasses import replace
from typing import Any

import torch
from optree import tree_leaves
from torch import Tensor

from funcbio._checks import require, shown
from funcbio.sweeps._gradient import trained
from funcbio.sweeps._job import Job
from funcbio.sweeps._seeded import seeded
from funcbio.sweeps._training import Course


@torch.enable_grad()
def require_learning(job: Job) -> None:
    """Raises ValueError if the loss of the first member has no gradient, so that nothing would be trained."""
    first = [trial for trial in job.trials[:2] if trial.kind == job.trials[0].kind]
    engine = job.engine(first)  # Of two, so that a model of changing shapes is refused before its loss is.
    (member, batch, key), kind = Course(job, engine, first).first, engine.kind
    outputs: Any = []

    def loss(output: Any, target: Tensor) -> Any:
        outputs.append(output)
        return job.loss(output, target)

    rules = replace(kind.rules, loss=loss)
    with seeded(key):
        value = rules.loss_of(trained(member.params), member=member, key=key, batch=rules.read(batch))[0]
    if value.requires_grad:
        return
    attached = any(isinstance(leaf, Tensor) and leaf.requires_grad for leaf in tree_leaves(outputs))
    if not attached:
        should = "a network whose output depends on its parameters, without detach or torch.no_grad"
        require("model", f"{shown(outputs[0])} that does not", should, False)
    should = "a function whose result depends on the output, as a tensor with a gradient: no number, no .item()"
    require("loss", f"{shown(value)} without one", should, False)
