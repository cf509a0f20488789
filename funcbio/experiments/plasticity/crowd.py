"""All members of one method, and the compiled step that moves all of them."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, vmap

from funcbio import Tree, fold_in
from funcbio.compiling import with_own_code
from funcbio.experiments.plasticity.learner import make_learner
from funcbio.experiments.plasticity.methods import Method
from funcbio.sweeps._optimizers import recipe

UPKEEP_EVERY = 16
"""Steps between two rounds of shrinking or rejuvenation: neither knows where a task ends."""

NEUTRAL = {"lr": 0.0, "decay": 0.0, "pull": 0.0, "shrink": 0.0, "strength": 1.0, "floor": 0.0, "nu": 0.16}
"""Numbers of a method that does not use them; only ``lr`` has to be given."""

OPTIMIZERS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}


class Crowd:
    """All members of one method.

    Args:
        method: The method.
        optimizer: "sgd" or "adam".
        keys: A key for every member, shape ``(members, 2)``.
        numbers: A value for every member, by name.
        compile: Whether to compile the step.
    """

    def __init__(
        self, method: Method, optimizer: str, keys: Tensor, numbers: dict[str, Tensor], *, compile: bool
    ) -> None:
        self.method, self.optimizer, self.keys, self.compile = method, optimizer, keys, compile
        filled = {name: torch.full((len(keys),), value) for name, value in NEUTRAL.items()}
        self.numbers = filled | numbers
        self.members: Any = vmap(make_learner(method).begin)(keys, self.numbers)
        self.moments: Any = {}
        self.steps = 0

    @torch.no_grad()
    def step(self, x: Tensor, y: Tensor) -> Tensor:
        """Learns from a batch for every member; returns the share of right answers before."""
        # In the first one, optimizers of torch make their state: that is not compiled.
        kind = self.method.rates, self.method.crystallizes
        step = advance(self.optimizer, *kind, compile=self.compile and bool(self.moments))
        params, rate, self.moments, right = step(self.members, self.moments, self.numbers, x, y)
        self.members = self.members._replace(params=params, rate=rate)
        self.steps += 1
        if self.method.upkeep and self.steps % UPKEEP_EVERY == 0:
            self._keep_up(self.method.upkeep)
        return right

    def _keep_up(self, kind: str) -> None:
        number = torch.tensor(self.steps)
        keys = vmap(lambda key: fold_in(fold_in(key, "upkeep"), number))(self.keys)
        params, replaced = upkeep(kind, compile=self.compile)(self.members, self.numbers, keys)
        self.members = self.members._replace(params=params)
        for entry in ("exp_avg", "exp_avg_sq") if replaced else ():
            for average, name in zip(self.moments.get(entry, ()), params, strict=False):
                if replaced[name].ndim == average.ndim:  # A new synapse has no past.
                    average.masked_fill_(replaced[name], 0.0)


@cache
def advance(optimizer: str, rates: str | None, crystallizes: bool, *, compile: bool) -> Callable[..., Any]:
    """The step of all members; one graph serves all methods that differ in numbers only."""
    learner = make_learner(Method("", "", (), rates, crystallizes))
    built = recipe(OPTIMIZERS[optimizer], None).build({})

    def step(members: Any, moments: Any, numbers: Tree, x: Tensor, y: Tensor) -> Any:
        grads, rate, right = vmap(learner.gradient)(members, numbers, x, y)
        direction, moments = built.direction(moments, members.params, grads, vmap)
        return vmap(learner.moved)(members, rate, numbers, direction), rate, moments, right

    return _graph(step) if compile else step


@cache
def upkeep(kind: str, *, compile: bool) -> Callable[..., Any]:
    """The upkeep of all members."""
    learner = make_learner(Method("", "", (), upkeep=kind))

    def keep_up(members: Any, numbers: Tree, keys: Tensor) -> Any:
        return vmap(learner.upkeep)(members, numbers, keys)

    return _graph(keep_up) if compile else keep_up


def _graph(function: Any) -> Callable[..., Any]:
    return torch.compile(with_own_code(function), fullgraph=True, dynamic=False)
