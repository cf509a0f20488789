"""The fingerprint by which a sweep is recognized: a description for the file in its folder."""

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
from funcbio.sweeps._batches import Batches, StepKeys, first_of
from funcbio.sweeps._engine import Engine
from funcbio.sweeps._folds import rows_of
from funcbio.sweeps._gradient import trained
from funcbio.sweeps._job import Job, acts_on_units
from funcbio.sweeps._member import MemberTensors, Rules
from funcbio.sweeps._seeded import seeded
from funcbio.sweeps._stack import build
from funcbio.sweeps._trials import Trial


def fingerprint(job: Job) -> Seen:
    """Describes a sweep: its arguments, its first network, and what that network computes on a batch."""
    # The functions come first: some count how often they were called.
    seen = describe(_arguments(job))
    return seen | _twice(lambda: _network(job)) | _twice(_Forward(job))


def _arguments(job: Job) -> dict[str, Any]:
    return {
        **{name: getattr(job, name) for name in ("steps", "batch_size", "record_every", "compile")},
        "share": sorted(job.shared),
        "optimizer": job.recipe.make,
        **({} if job.recipe.newborn is None else {"newborn": job.recipe.newborn}),
        **({"no_decay": job.recipe.no_decay} if job.recipe.no_decay else {}),
        **({"units": job.table.to("cpu").state_dict()} if any(map(acts_on_units, job.trials)) else {}),
        "number of members": len(job.trials),
        "members": [_member(trial) for trial in job.trials],
        **{name: getattr(job, name) for name in ("model", "loss", "data", "test", "folds", "metrics")},
        **({"train_metrics": job.train_metrics} if job.train_metrics else {}),
        "funcbio": Leaf({"version": sys.modules["funcbio"].__version__}),
        "torch": Leaf({"version": torch.__version__}),
    }


def _member(trial: Trial) -> dict[str, Any]:
    """Describes a member: its values in the table, and what follows from them."""
    config = vars(trial.config)
    numbers = {name: value for name, value in trial.numbers.items() if name not in config}
    return {"seed": trial.seed, **numbers, "config": trial.config, "options": trial.options, "does": trial.mechanisms}


def _network(job: Job) -> Seen:
    model = build(job.model, job.trials[0], job.shared)
    return describe({"network": model, "synapses": sorted(synapses(model, job.synapses))})


class _Forward:
    """Describes the first member on its first batch: batch, output and loss; results of mechanisms and metrics.

    Args:
        job: The sweep.
    """

    def __init__(self, job: Job) -> None:
        self.job, self.seen = job, Seen()
        self.output: Any = None

    def __call__(self) -> Seen:
        """Returns the numbers of a forward pass; only the error if it fails, which training will raise."""
        self.seen, engine = {}, self.engine
        try:
            member, key, target = self._forward(engine)
        except Exception as error:
            return {"forward": _failed(error)}
        for what, note in {"mechanisms": self._mechanisms, "metrics": self._metrics}.items():
            try:
                note(engine.kind.rules, member, key, target)
            except Exception as error:  # Some refuse invented numbers that no network would output.
                self.seen[f"forward.{what}"] = _failed(error)
        return self.seen

    @cached_property
    def engine(self) -> Engine:
        """Returns an engine of the first member alone."""
        return self.job.engine(self.job.trials[:1])

    def _forward(self, engine: Engine) -> tuple[MemberTensors, Key, Tensor]:
        """Records a forward pass; returns the member, the key of the step, and the batch's target."""
        rows = rows_of(self.job.folds, self.job.trials[:1], 0, self.job.device)
        batch = first_of(Batches(self.job, engine.members.keys["batches"], rows).at(0))
        key = StepKeys(engine.members.keys["noise"]).at(0)[0]
        member = engine.members.map(lambda leaf: leaf[0])
        rules = replace(engine.kind.rules, loss=self._spy)
        with seeded(key):
            read = rules.read(batch)
            self._note("batch", read)
            self._note("loss", rules.loss_of(trained(member.params), member=member, key=key, batch=read)[0])
        return member, key, read[-1]

    @torch.no_grad()
    def _mechanisms(self, rules: Rules, member: MemberTensors, key: Key, _: Tensor) -> None:
        """Records what mechanisms make of invented gradients: the network's own may be rounding errors only."""
        acting, grads = tuple(range(len(rules.mechanisms))), _invented(key, member.params)
        with seeded(key):
            for place in PLACES:
                treated: Any = rules.treat(place, acting, member.params, grads, member.state, member.numbers, key)
                # Masks and counts are left out: rounding may decide on one of a million weights.
                self._note(place, [leaf for leaf in tree_leaves(treated) if leaf.is_floating_point()])

    @torch.no_grad()
    def _metrics(self, rules: Rules, member: MemberTensors, key: Key, target: Tensor) -> None:
        """Records what metrics make of an invented output, which is far from the points at which they switch."""
        del rules, member
        output = _invented(key, self.output)
        with seeded(key):
            for what in ("metrics", "train_metrics"):
                self._note(what, {name: metric(output, target) for name, metric in getattr(self.job, what).items()})

    def _spy(self, output: Any, target: Tensor) -> Tensor:
        self._note("output", output)
        self.output = output
        return self.job.loss(output, target)

    def _note(self, what: str, tree: Any) -> None:
        for at, leaf in enumerate(tree_leaves(tree)):
            if isinstance(leaf, Tensor):
                self.seen[f"forward.{what}[{at}]"] = describe_tensor(leaf, computed=True)


def _invented(key: Key, tree: Any) -> Any:
    """Returns normal numbers in the place of a tree's."""

    def invented(leaf: Any) -> Any:
        real = isinstance(leaf, Tensor) and leaf.is_floating_point()
        return normal(key, tuple(leaf.shape)).to(leaf.device, leaf.dtype) if real else leaf

    return tree_map(invented, tree)


def _failed(error: Exception) -> dict[str, str]:
    return {"unseen": f"it failed, {type(error).__name__}"}


def _twice(describe_it: Any) -> Seen:
    """Describes twice; an entry that differs within one process cannot be compared with that of another."""
    first, second = describe_it(), describe_it()
    for path in [path for path in first if compare({path: first[path]}, {path: second.get(path)}).different]:
        first[path] = {"unseen": "not the same twice"}
    return first
