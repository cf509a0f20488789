"""What makes a sweep this one and no other, for the file in its folder."""

import sys
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from optree import tree_leaves, tree_map
from torch import Tensor

from funcbio.anatomy._synapses import synapses
from funcbio.base import Key
from funcbio.identity._compare import compare
from funcbio.identity._describe import Seen, describe
from funcbio.identity._parts import Leaf
from funcbio.identity._tensor import describe_tensor
from funcbio.mechanisms._placed import PLACES
from funcbio.rng import normal
from funcbio.sweeps._batches import Batches, StepKeys
from funcbio.sweeps._engine import Engine
from funcbio.sweeps._folds import rows_of
from funcbio.sweeps._gradient import trained
from funcbio.sweeps._job import Job
from funcbio.sweeps._member import Own, Rules
from funcbio.sweeps._seeded import seeded
from funcbio.sweeps._stack import build
from funcbio.sweeps._trials import Trial


def fingerprint(job: Job) -> Seen:
    """Returns all that can be seen of a sweep: its arguments, its first network, and what that computes of a batch."""
    # The functions come first: some count how often they were called.
    seen = describe(_arguments(job))
    return seen | _twice(lambda: _network(job)) | _twice(_Forward(job))


def _arguments(job: Job) -> dict[str, Any]:
    return {
        **{name: getattr(job, name) for name in ("steps", "batch_size", "record_every", "compile")},
        "share": sorted(job.shared),
        "optimizer": job.recipe.make,
        "number of members": len(job.trials),
        "members": [_member(trial) for trial in job.trials],
        **{name: getattr(job, name) for name in ("model", "loss", "data", "test", "folds", "metrics")},
        "funcbio": Leaf({"version": sys.modules["funcbio"].__version__}),
        "torch": Leaf({"version": torch.__version__}),
    }


def _member(trial: Trial) -> dict[str, Any]:
    """What the table says of it, and what follows from that."""
    config = vars(trial.config)
    numbers = {name: value for name, value in trial.numbers.items() if name not in config}
    return {"seed": trial.seed, **numbers, "config": trial.config, "options": trial.options, "does": trial.mechanisms}


def _network(job: Job) -> Seen:
    model = build(job.model, job.trials[0], job.shared)
    return describe({"network": model, "synapses": sorted(synapses(model, job.synapses))})


class _Forward:
    """The first member on its first batch: what it reads, computes and loses; what mechanisms and metrics do.

    Args:
        job: The sweep.
    """

    def __init__(self, job: Job) -> None:
        self.job, self.seen = job, Seen()
        self.output: Any = None

    def __call__(self) -> Seen:
        """Returns the numbers of a forward pass; of one that fails, which training will say, nothing."""
        self.seen, engine = {}, self.engine
        try:
            own, key, target = self._forward(engine)
        except Exception as error:
            return {"forward": _failed(error)}
        for what, look in {"mechanisms": self._mechanisms, "metrics": self._metrics}.items():
            try:
                look(engine.kind.rules, own, key, target)
            except Exception as error:  # Some refuse what no network puts out.
                self.seen[f"forward.{what}"] = _failed(error)
        return self.seen

    @cached_property
    def engine(self) -> Engine:
        """The first member alone."""
        return self.job.engine(self.job.trials[:1])

    def _forward(self, engine: Engine) -> tuple[Own, Key, Tensor]:
        """Notes a forward pass; returns the member, the key of the step, and the batch's target."""
        rows = rows_of(self.job.folds, self.job.trials[:1], 0, self.job.device)
        batch = Batches(self.job, engine.own.keys["batches"], rows).at(0)[0]
        key = StepKeys(engine.own.keys["noise"]).at(0)[0]
        own = engine.own.map(lambda leaf: leaf[0])
        rules = replace(engine.kind.rules, loss=self._spy)
        with seeded(key):
            read = rules.read(batch)
            self._note("batch", read)
            self._note("loss", rules.loss_of(trained(own.params), own=own, key=key, batch=read)[0])
        return own, key, read[-1]

    @torch.no_grad()
    def _mechanisms(self, rules: Rules, own: Own, key: Key, _: Tensor) -> None:
        """Notes what they make of invented gradients; those of the network may be nothing but rounding."""
        acting, grads = tuple(range(len(rules.mechanisms))), _invented(key, own.params)
        with seeded(key):
            for place in PLACES:
                treated: Any = rules.treat(place, acting, own.params, grads, own.state, own.numbers, key)
                # Masks and counts are left out: rounding may decide on one of a million weights.
                self._note(place, [leaf for leaf in tree_leaves(treated) if leaf.is_floating_point()])

    @torch.no_grad()
    def _metrics(self, rules: Rules, own: Own, key: Key, target: Tensor) -> None:
        """Notes what they make of an invented output, which is not near to where they would decide otherwise."""
        del rules, own
        output = _invented(key, self.output)
        with seeded(key):
            self._note("metrics", {name: metric(output, target) for name, metric in self.job.metrics.items()})

    def _spy(self, output: Any, target: Tensor) -> Tensor:
        self._note("output", output)
        self.output = output
        return self.job.loss(output, target)

    def _note(self, what: str, tree: Any) -> None:
        for at, leaf in enumerate(tree_leaves(tree)):
            if isinstance(leaf, Tensor):
                self.seen[f"forward.{what}[{at}]"] = describe_tensor(leaf, computed=True)


def _invented(key: Key, tree: Any) -> Any:
    """Normal numbers in the place of a tree's."""

    def invented(leaf: Any) -> Any:
        real = isinstance(leaf, Tensor) and leaf.is_floating_point()
        return normal(key, tuple(leaf.shape)).to(leaf.device, leaf.dtype) if real else leaf

    return tree_map(invented, tree)


def _failed(error: Exception) -> dict[str, str]:
    return {"unseen": f"it failed, {type(error).__name__}"}


def _twice(look: Any) -> Seen:
    """Looks twice; what is not the same twice, in one process, cannot be compared with that of another."""
    first, second = look(), look()
    for path in [path for path in first if compare({path: first[path]}, {path: second.get(path)}).different]:
        first[path] = {"unseen": "not the same twice"}
    return first
