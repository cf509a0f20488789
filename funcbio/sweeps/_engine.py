"""Training steps of a whole stack of members: by vmap, or one by one where torch cannot; eager or compiled."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from optree import tree_leaves, tree_map
from torch import Tensor

from funcbio.sweeps._member import Own, Rules
from funcbio.sweeps._optimizers import Functional, Torch
from funcbio.sweeps._stack import merged, replaced


class Engine:
    """Trains a stack of members; holds what is theirs and their optimizer.

    Args:
        rules: How they learn.
        own: What belongs to them.
        make_optimizer: Makes their optimizer, given their parameters and what maps a function over members.
        in_dims: Of a batch: 0 if every member has its own.
        compile: Whether to compile the whole step.
    """

    def __init__(
        self,
        rules: Rules,
        own: Own,
        make_optimizer: Callable[..., Torch | Functional],
        *,
        in_dims: Any,
        compile: bool = False,
    ) -> None:
        self.rules, self.own, self.in_dims = rules, own, in_dims
        self.looped, self.compile = False, compile
        self.optimizer = make_optimizer(own.params, self.over_members)
        self.graphs: dict[tuple[int, ...], Callable[..., Any]] = {}
        self.seconds, self.compile_seconds, self.timed = 0.0, 0.0, 0

    def over_members(self, function: Callable[..., Any], in_dims: Any = 0) -> Callable[..., Any]:
        """Maps a function of one member over all of them."""
        return looped(function, in_dims) if self.looped else torch.vmap(function, in_dims=in_dims)

    @torch.no_grad()
    def step(self, number: int, batch: Any) -> Tensor:
        """Trains one step and returns the loss of every member."""
        acting = tuple(i for i, mechanism in enumerate(self.rules.mechanisms) if mechanism.acts(number))
        began, first = time.perf_counter(), number == 0 or (self.compile and acting not in self.graphs)
        step = torch.tensor(number, device=next(iter(self.own.params.values())).device)
        # The first step is never compiled: in it, optimizers of torch make their state.
        advance = self._compiled(acting) if self.compile and number > 0 else partial(self._advance, acting)
        changes, loss = advance(self.own, batch, step)
        self.own = replaced(self.own, changes)
        passed = time.perf_counter() - began
        if first:
            self.compile_seconds += passed
        else:
            self.seconds, self.timed = self.seconds + passed, self.timed + 1
        return loss

    @torch.no_grad()
    def measure(self, metrics: Any, batch: Sequence[Tensor]) -> dict[str, Tensor]:
        """Measures every member on a batch that they share."""
        return self.over_members(partial(self.rules.measure, metrics), (0, None))(self.own, batch)

    def probe(self, batch: Any) -> str | None:
        """Tries one step on the first two members without changing anything; returns why vmap cannot, if it cannot.

        Raises:
            Exception: If the step fails for a single member too, its own error.
        """
        few = self.own.map(lambda leaf: leaf[:2])
        batch = batch[:2] if self.in_dims == 0 else batch
        arguments = few, batch, torch.tensor(0)
        learn = partial(self.rules.learn, tuple(range(len(self.rules.mechanisms))))
        try:
            torch.vmap(learn, in_dims=(0, self.in_dims, None))(*arguments)
        except Exception as error:
            looped(learn, (0, self.in_dims, None))(*arguments)
            self.looped = True
            return str(error).strip().split("\n")[0]
        return None

    def _advance(self, acting: tuple[int, ...], own: Own, batch: Any, number: Tensor) -> tuple[dict[str, Any], Tensor]:
        """One step: what has changed after it, and the losses before it."""
        learn = self.over_members(partial(self.rules.learn, acting), (0, self.in_dims, None))
        grads, changes, loss = learn(own, batch, number)
        own = replaced(own, changes)
        direction = self.optimizer.direction(own.params, grads)
        apply = self.over_members(partial(self.rules.apply, acting), (0, 0, None))
        return merged(changes, apply(own, direction, number)), loss

    def _compiled(self, acting: tuple[int, ...]) -> Callable[..., Any]:
        """The step as one graph; each set of mechanisms that act together has its own."""
        if acting not in self.graphs:
            self.graphs[acting] = torch.compile(partial(self._advance, acting), fullgraph=True, dynamic=False)
        return self.graphs[acting]


def looped(function: Callable[..., Any], in_dims: Any) -> Callable[..., Any]:
    """What ``torch.vmap`` returns, computed member by member."""

    def call(*args: Any) -> Any:
        dims = in_dims if isinstance(in_dims, tuple) else (in_dims,) * len(args)
        size = next(len(tree_leaves(arg)[0]) for arg, dim in zip(args, dims, strict=True) if dim == 0)
        results = []
        for i in range(size):
            pick = partial(_at, i)
            results.append(function(*(tree_map(pick, a) if d == 0 else a for a, d in zip(args, dims, strict=True))))
        return tree_map(lambda *leaves: torch.stack(leaves), *results)

    return call


def _at(index: int, leaf: Tensor) -> Tensor:
    return leaf[index]
