"""The arguments of a sweep, all of them checked before anything is trained."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn

from funcbio._checks import brief, is_count, require, shown
from funcbio.anatomy._fitting import require_fitting
from funcbio.anatomy._synapses import Choice
from funcbio.anatomy._tabulate import units
from funcbio.anatomy._units import Units
from funcbio.base import Key
from funcbio.functional._signs import BY_UNIT
from funcbio.mechanisms._row import units_of
from funcbio.rng import fold_in, key, permutation
from funcbio.sweeps._engine import Engine, Kind
from funcbio.sweeps._folds import Folds
from funcbio.sweeps._given import data_hint, metrics_hint, require_factory, require_loss, shown_data
from funcbio.sweeps._member import Rules, networks
from funcbio.sweeps._memory import fitting, member_bytes
from funcbio.sweeps._optimizers import Recipe
from funcbio.sweeps._stack import build, stack
from funcbio.sweeps._trials import SHARED, Trial

EXAMPLES = 8
"""Examples that the table of units is made with."""
POSITIONAL = inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
"""Kinds of parameters that are given by position."""
MEASURED_AT_ONCE = 1024
"""Examples of the test data in one forward pass; metrics are averaged over them."""

Data = Sequence[Tensor] | Callable[..., Sequence[Tensor]]


@dataclass(frozen=True)
class Job:
    """Holds the arguments of ``sweep``; see there."""

    model: Callable[[], nn.Module]
    loss: Callable[..., Tensor]
    data: Data
    steps: int
    batch_size: int
    recipe: Recipe
    trials: Sequence[Trial]
    shared: Sequence[str]
    test: Sequence[Tensor] | None
    metrics: Mapping[str, Callable[..., Tensor]]
    record_every: int
    synapses: Choice
    compile: bool | str
    device: torch.device
    folds: Folds = ()
    units: Units | None = None
    train_metrics: Mapping[str, Callable[..., Tensor]] = field(default_factory=dict)
    kinds: dict[str, Kind] = field(default_factory=dict)
    choices: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Checks every value."""
        for name in ("steps", "batch_size", "record_every"):
            require(name, getattr(self, name), "an integer >= 1", is_count(getattr(self, name)))
        valid = not isinstance(self.shared, str) and all(name in SHARED for name in self.shared)
        require("share", self.shared, f"a list, and hold some of {', '.join(SHARED)}", valid)
        require_factory(self.model)
        require_loss(self.loss)
        should = "a function of a key, data(key) or data(key, step)"
        require("data", self.data, should, not callable(self.data) or _takes_key(self.data))
        _check_data("data", self.data)
        if self.test is not None:
            require("test", self.test, "tensors", not callable(self.test))
            _check_data("test", self.test)
        for name in ("metrics", "train_metrics"):
            _check_metrics(name, getattr(self, name))
        measured = self.test is not None or bool(self.folds)
        require("test", self.test, "given with metrics", measured or not self.metrics)
        if not self.streams:
            most = self.count
            should = f"at most the number of examples, {most}"
            require("batch_size", self.batch_size, should, self.batch_size <= most)

    @property
    def streams(self) -> bool:
        """Returns True if batches are made by a function."""
        return callable(self.data)

    @cached_property
    def numbered(self) -> bool:
        """Returns True if the function that makes batches takes the number of the step."""
        return callable(self.data) and _takes_step(self.data)

    @cached_property
    def step_by_name(self) -> bool:
        """Returns True if the function that makes batches takes the number of the step by its name."""
        item = (_parameters(self.data) or {}).get("step")
        return item is not None and item.kind is not item.POSITIONAL_ONLY

    def make(self, key: Key, *step: Tensor) -> Sequence[Tensor]:
        """Calls the function that makes batches; raises ValueError if it returns none."""
        assert callable(self.data)
        batch: Any = self.data(key, step=step[0]) if step and self.step_by_name else self.data(key, *step)
        tensors = isinstance(batch, Sequence) and all(isinstance(part, Tensor) for part in batch)
        should = "a function that returns a sequence of two or more tensors, inputs and target"
        require("data", shown(batch), should, tensors and len(batch) >= 2)
        return batch

    @property
    def read(self) -> Callable[[Any], Sequence[Tensor]]:
        """Returns the function that turns indices or a key into a batch; a numbered batch is made before the step."""
        if not callable(self.data):
            return partial(_picked, self.examples)
        return tuple if self.numbered else self.make

    def sample(self, key: Key) -> Any:
        """Returns what a first batch is read from."""
        if not self.streams:
            return torch.arange(self.batch_size, device=self.device)
        return self.make(key, torch.zeros((), dtype=torch.int64, device=self.device)) if self.numbered else key

    @cached_property
    def examples(self) -> list[Tensor]:
        """Returns the data, on the device."""
        return [] if callable(self.data) else [tensor.to(self.device) for tensor in self.data]

    @cached_property
    def held_out(self) -> list[Tensor]:
        """Returns the test data, on the device."""
        return [tensor.to(self.device) for tensor in self.test or ()]

    @property
    def count(self) -> int:
        """Counts the examples that a member learns from."""
        return len(self.folds[0][0]) if self.folds else len(self.examples[0])

    @property
    def batches(self) -> int:
        """Counts the batches in an epoch; 0 if there are no epochs."""
        return 0 if self.streams else self.count // self.batch_size

    @cached_property
    def table(self) -> Units:
        """Returns the table of the network's units: the one given, or one made with the first examples."""
        network = build(self.model, self.trials[0], self.shared)
        told = (one.units for trial in self.trials for one in trial.mechanisms if one.units is not None)
        given = next(told, self.units)
        if given is not None:
            require_fitting(given, network)
            return given.to(self.device)
        batch = self.read(self.sample(key(0))) if self.streams else [part[:EXAMPLES] for part in self.examples]
        return units(network, *(part.cpu() for part in batch[:-1])).to(self.device)

    def units_for(self, trial: Trial) -> Units | None:
        """Returns the table if a member needs it: for mechanisms on units, or for signs by unit."""
        signed = trial.config.apply_dales_principle and (
            self.units is not None or trial.config.dales_variant == BY_UNIT
        )
        return self.table if acts_on_units(trial) or signed else None

    def told(self, trial: Trial) -> Trial:
        """Returns a member whose mechanisms on units have the table of the network's units."""
        if not acts_on_units(trial):
            return trial
        given = units_of(one.row for one in trial.mechanisms)
        table = self.table if given is None else given.to(self.device)
        return replace(trial, mechanisms=tuple(one.with_units(table) for one in trial.mechanisms))

    def kind(self, trial: Trial) -> Kind:
        """Makes the ``Kind`` of a trial; trials that can train together share one."""
        if trial.kind not in self.kinds:
            trial = self.told(trial)
            table = self.table if acts_on_units(trial) else None
            network = build(self.model, trial, self.shared)
            forward, still = networks(network, self.synapses, trial.config, table)
            optimizer = self.recipe.build(trial.options)
            rules = Rules(
                forward,
                still,
                self.loss,
                trial.mechanisms,
                trial.config,
                optimizer.decoupled,
                self.read,
                self.train_metrics,
                spared=frozenset(name for name, _ in network.named_parameters() if not self.recipe.decays(name)),
            )
            self.kinds[trial.kind] = Kind(rules, optimizer, compile=self.compile is True)
        return self.kinds[trial.kind]

    def engine(self, trials: Sequence[Trial]) -> Engine:
        """Makes the engine that trains members of one kind, at their start."""
        return Engine(
            self.kind(trials[0]),
            stack(
                self.model,
                [*map(self.told, trials)],
                self.shared,
                self.synapses,
                self.device,
                self.units_for(trials[0]),
            ),
        )

    def members_at_once(self, trials: Sequence[Trial]) -> int:
        """Counts the members of one kind that fit into memory."""
        engine = self.engine(trials[:1])
        member = engine.members.map(lambda leaf: leaf[0])
        batch = self.sample(member.keys["batches"])
        return fitting(member_bytes(engine.kind.rules, member, batch), self.device)

    def order(self, keys: Tensor, epoch: int) -> Tensor:
        """Returns every member's order of the examples in one epoch."""
        count = self.count

        def shuffle(key: Key) -> Tensor:
            return permutation(fold_in(key, epoch), count)

        return torch.vmap(shuffle)(keys)


def acts_on_units(trial: Trial) -> bool:
    """Returns True if a mechanism of a member needs the table of units."""
    return any(one.row.by_unit for one in trial.mechanisms)


def _picked(examples: Sequence[Tensor], batch: Tensor) -> Sequence[Tensor]:
    return [tensor[batch] for tensor in examples]


def _takes_key(make: Any) -> bool:
    """Returns True if a function can be called with an argument, or does not say."""
    items = _parameters(make)
    return items is None or any(item.kind in (*POSITIONAL, item.VAR_POSITIONAL) for item in items.values())


def _takes_step(make: Callable[..., Any]) -> bool:
    """Returns True if a function has a parameter named step, or a second one by position without a default."""
    items = _parameters(make) or {}
    positional = [i for i in items.values() if i.kind in POSITIONAL and i.default is i.empty]
    return "step" in items or len(positional) > 1


def _parameters(make: Any) -> Mapping[str, inspect.Parameter] | None:
    try:
        return inspect.signature(make).parameters
    except (TypeError, ValueError):
        return None


def _check_metrics(name: str, metrics: Any) -> None:
    functions = isinstance(metrics, Mapping) and all(callable(metric) for metric in metrics.values())
    if not functions or "loss" in metrics:
        should = "functions by name, not named loss"
        raise ValueError(f"{name} should be {should}; found {brief(metrics)}{metrics_hint(metrics)}")


def _check_data(name: str, data: Any) -> None:
    if callable(data):
        return
    tensors = isinstance(data, Sequence) and all(isinstance(part, Tensor) for part in data)
    if not tensors or len(data) < 2:
        should = "a sequence of two or more tensors, inputs and target"
        raise ValueError(f"{name} should be {should}; found {shown_data(data)}{data_hint(data)}")
    whole = all(part.ndim > 0 and len(part) == len(data[0]) > 0 for part in data)
    require(name, ", ".join(map(shown, data)), "a sequence, and hold tensors of one length >= 1", whole)
