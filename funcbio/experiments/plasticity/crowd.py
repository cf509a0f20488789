"""All members of one method, and the compiled step that moves all of them."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from optree import tree_map
from torch import Tensor, vmap

from funcbio import Tree, fold_in
from funcbio.engine._compiling import with_own_code
from funcbio.experiments.plasticity.learner import make_learner
from funcbio.experiments.plasticity.methods import Method

UPKEEP_EVERY = 16
"""Steps between two rounds of shrinking or rejuvenation, wherever a task ends."""

NEUTRAL = {"lr": 0.0, "decay": 0.0, "pull": 0.0, "shrink": 0.0, "strength": 1.0, "floor": 0.0, "nu": 0.16}
"""Values of the numbers that a method does not use; every method sets ``lr``."""

DECAYS = {"exp_avg": 0.9, "exp_avg_sq": 0.999}
"""Adam's averages of the gradient and of its square."""

TINY = 1e-8
"""Epsilon of Adam, added to the divisor."""


class Crowd:
    """Trains all members of one method: each has a key, and a value of every number."""

    def __init__(
        self, method: Method, optimizer: str, keys: Tensor, numbers: dict[str, Tensor], *, compile: bool
    ) -> None:
        self.method, self.optimizer, self.keys, self.compile = method, optimizer, keys, compile
        filled = {name: torch.full((len(keys),), value) for name, value in NEUTRAL.items()}
        self.numbers = filled | numbers
        self.members: Any = vmap(make_learner(method).begin)(keys, self.numbers)
        averages = DECAYS if optimizer == "adam" else ()
        self.moments: Any = {entry: tree_map(torch.zeros_like, self.members.params) for entry in averages}
        self.steps = 0

    @torch.no_grad()
    def step(self, x: Tensor, y: Tensor) -> Tensor:
        """Learns from a batch for every member; returns the share of right answers before."""
        self.steps += 1
        step = advance(self.optimizer, self.method.rates, self.method.crystallizes, compile=self.compile)
        # Computed outside of the graph, which would compute the powers for each weight.
        weights = {entry: torch.tensor(1.0 - decay**self.steps) for entry, decay in DECAYS.items()}
        params, rate, self.moments, right = step(self.members, self.moments, weights, self.numbers, x, y)
        self.members = self.members._replace(params=params, rate=rate)
        if self.method.upkeep and self.steps % UPKEEP_EVERY == 0:
            self._keep_up(self.method.upkeep)
        return right

    def _keep_up(self, kind: str) -> None:
        number = torch.tensor(self.steps)
        keys = vmap(lambda key: fold_in(fold_in(key, "upkeep"), number))(self.keys)
        params, replaced = upkeep(kind, compile=self.compile)(self.members, self.numbers, keys)
        self.members = self.members._replace(params=params)
        for average in self.moments.values() if replaced else ():
            for name, new in replaced.items():
                if new.ndim == average[name].ndim:  # The averages of a new synapse start at zero.
                    average[name].masked_fill_(new, 0.0)


@cache
def advance(optimizer: str, rates: str | None, crystallizes: bool, *, compile: bool) -> Callable[..., Any]:
    """Returns the step of all members; one graph serves all methods that differ in numbers only."""
    learner = make_learner(Method("", (), rates, crystallizes))
    direct = adam if optimizer == "adam" else sgd

    def step(members: Any, moments: Any, weights: Any, numbers: Tree, x: Tensor, y: Tensor) -> Any:
        grads, rate, right = vmap(learner.gradient)(members, numbers, x, y)
        direction, moments = direct(grads, moments, weights)
        return vmap(learner.moved)(members, rate, numbers, direction), rate, moments, right

    return _graph(step) if compile else step


def sgd(grads: Tree, moments: Any, weights: Any) -> tuple[Tree, Any]:
    """Returns the direction of gradient descent."""
    del weights
    return tree_map(torch.neg, grads), moments


def adam(grads: Tree, moments: Any, weights: Any) -> tuple[Tree, Any]:
    """Returns Adam's direction and new averages; ``weights`` are such averages of ones, for the bias correction."""

    def average(entry: str, seen: Tree) -> Tree:
        return tree_map(lambda old, new: torch.lerp(old, new, 1.0 - DECAYS[entry]), moments[entry], seen)

    mean, square = average("exp_avg", grads), average("exp_avg_sq", tree_map(torch.square, grads))
    first, second = weights["exp_avg"].reciprocal(), weights["exp_avg_sq"].rsqrt()
    direction = tree_map(lambda m, v: -m * first / (v.sqrt() * second + TINY), mean, square)
    return direction, {"exp_avg": mean, "exp_avg_sq": square}


@cache
def upkeep(kind: str, *, compile: bool) -> Callable[..., Any]:
    """Returns the upkeep of all members."""
    learner = make_learner(Method("", upkeep=kind))

    def keep_up(members: Any, numbers: Tree, keys: Tensor) -> Any:
        return vmap(learner.upkeep)(members, numbers, keys)

    return _graph(keep_up) if compile else keep_up


def _graph(function: Any) -> Callable[..., Any]:
    return torch.compile(with_own_code(function), fullgraph=True, dynamic=False)
