"""Training steps of many members at once: by vmap, or one by one where torch cannot; eager or compiled."""

import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from optree import tree_leaves, tree_map
from torch import Tensor

from funcbio.base import Key
from funcbio.functional._idle import outside
from funcbio.sweeps._flat import Flat
from funcbio.sweeps._gradient import plain, transformed
from funcbio.sweeps._graph import Graph
from funcbio.sweeps._member import MemberTensors, Rules
from funcbio.sweeps._newborn import masks_of
from funcbio.sweeps._optimizers import Functional, Torch
from funcbio.sweeps._seeded import seeded
from funcbio.sweeps._stack import merged, replaced


class Kind:
    """Holds what members that can train together share: rules, optimizer, and their step as a graph.

    Args:
        rules: How they learn.
        optimizer: Their optimizer.
        compile: Whether to compile the whole step.

    Attributes:
        looped: Whether they train, and are measured, one by one.
        measures_looped: Whether they are measured one by one, however they train.
        rehearsed: Whether training, measuring and saving were tried.
        backend: Name of torch's compiler.
    """

    backend = "inductor"

    def __init__(self, rules: Rules, optimizer: Torch | Functional, *, compile: bool = False) -> None:
        self.rules, self.optimizer, self.compile = rules, optimizer, compile
        self.looped = self.measures_looped = self.rehearsed = False
        self.graphs: dict[tuple[int, ...], Graph] = {}

    def over_members(self, function: Callable[..., Any], in_dims: Any = 0) -> Callable[..., Any]:
        """Maps a function of one member over all of them."""
        return looped(function, in_dims) if self.looped else torch.vmap(function, in_dims=in_dims)

    def advance(self, acting: tuple[int, ...], members: MemberTensors, moments: Any, batch: Any, keys: Tensor) -> Any:
        """Makes one step; returns the changed tensors, the optimizer's state, and the losses before the step."""
        grads, changes, loss = self.learn(acting)(members, batch, keys)
        members = replaced(members, changes)
        moments = self.optimizer.renewed(moments, members.params, masks_of(changes))
        seen = self.over_members(self.rules.decayed)(members, grads) if self.rules.decays_gradient(members) else grads
        direction, moments = self.optimizer.direction(moments, members.params, seen, self.over_members)
        apply = self.over_members(partial(self.rules.apply, acting))
        later = apply(members, direction, grads, keys)
        moments = self.optimizer.renewed(moments, members.params, masks_of(later))
        return merged(changes, later), moments, loss

    def learn(self, acting: tuple[int, ...]) -> Callable[..., Any]:
        """Returns the first part of a step, over members: gradients and the mechanisms in their place."""
        if self.looped:
            return looped(partial(_seeded, partial(self.rules.learn, plain, acting)))
        return torch.vmap(partial(self.rules.learn, transformed, acting))

    def measure(
        self, metrics: Any, members: MemberTensors, batch: Any, in_dims: Any, read: Callable[[Any], Any]
    ) -> dict[str, Tensor]:
        """Measures every member on a batch, which ``read`` turns into tensors."""

        def measure(members: MemberTensors, batch: Any) -> dict[str, Tensor]:
            return self.rules.measure(metrics, members, read(batch))

        if self.looped or self.measures_looped:
            return looped(partial(_seeded_measure, measure), in_dims)(members, batch)
        return torch.vmap(measure, in_dims=in_dims)(members, batch)

    def graph(self, acting: tuple[int, ...]) -> Graph:
        """Returns the compiled step; each set of mechanisms that act together has its own."""
        if acting not in self.graphs:

            def step(*tensors: Any) -> Any:
                return self.advance(acting, *tensors)

            self.graphs[acting] = Graph(step, self.backend)
        return self.graphs[acting]

    def try_graph(self, acting: tuple[int, ...], members: MemberTensors, moments: Any, *tensors: Any) -> None:
        """Compiles a step by running it on copies; if torch cannot, warns why, and training goes on without."""
        try:
            with recurrent_allowed():
                self.graph(acting).rehearse(members, moments, *tensors)
        except Exception as error:
            self.compile = False
            reason = str(error).strip().split("\n")[0]
            text = f"this model trains without compile=True: torch cannot compile it ({reason})"
            warnings.warn(text, stacklevel=outside())


class Engine:
    """Trains a stack of members, and holds their tensors.

    Args:
        kind: Their rules, optimizer and compiled steps.
        members: Their tensors.
    """

    def __init__(self, kind: Kind, members: MemberTensors) -> None:
        self.kind, self.flat = kind, Flat(members, {})
        self.seconds, self.compile_seconds, self.timed = 0.0, 0.0, 0
        self.compiled: set[tuple[int, ...]] = set()  # Sets of mechanisms, for this number of members.

    @property
    def members(self) -> MemberTensors:
        """Returns the tensors of the members."""
        return self.flat.read()[0]

    @property
    def moments(self) -> Any:
        """Returns the optimizer's state."""
        return self.flat.read()[1]

    @torch.no_grad()
    def step(self, number: int, batch: Any, keys: Tensor) -> Tensor:
        """Trains one step and returns the loss of every member."""
        kind, began = self.kind, time.perf_counter()
        acting = tuple(i for i, mechanism in enumerate(kind.rules.mechanisms) if mechanism.acts(number))
        # The first step is never compiled: in it, optimizers of torch make their state.
        new_graph = kind.compile and number > 0 and acting not in self.compiled
        if new_graph:
            self.compiled.add(acting)
            kind.try_graph(acting, *self.flat.read(), batch, keys)
        compiled = kind.compile and number > 0
        loss = kind.graph(acting)(self.flat, batch, keys) if compiled else self.advance(acting, batch, keys)
        self._note(time.perf_counter() - began, new_graph or number == 0)
        return loss

    def advance(self, acting: tuple[int, ...], batch: Any, keys: Tensor) -> Tensor:
        """Trains one step eagerly, with the mechanisms given."""
        members, moments = self.flat.read()
        changes, moments, loss = self.kind.advance(acting, members, moments, batch, keys)
        self.flat.replace(replaced(members, changes), moments)
        return loss

    @torch.no_grad()
    def measure(self, metrics: Any, batch: Sequence[Tensor]) -> dict[str, Tensor]:
        """Measures every member on a batch that they share."""
        return self.kind.measure(metrics, self.members, batch, (0, None), lambda batch: batch)

    @torch.no_grad()
    def measure_rows(self, metrics: Any, rows: Tensor) -> dict[str, Tensor]:
        """Measures every member on its own examples, given by row numbers of shape ``(members, examples)``."""
        return self.kind.measure(metrics, self.members, rows, 0, self.kind.rules.read)

    def _note(self, passed: float, first: bool) -> None:
        if first:
            self.compile_seconds += passed
        else:
            self.seconds, self.timed = self.seconds + passed, self.timed + 1

    def state_dict(self) -> dict[str, Any]:
        """Returns the tensors and the optimizer's state of the members, as lists."""
        return {"own": self.members.leaves(), "moments": {n: tree_leaves(part) for n, part in self.moments.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the tensors and the optimizer's state."""
        leaves = iter(state["own"])
        members = self.members.map(lambda old: next(leaves).to(old))
        moments = self.kind.optimizer.restored(state["moments"], members.params, self.kind.over_members)
        self.flat.replace(members, moments)


def looped(function: Callable[..., Any], in_dims: Any = 0) -> Callable[..., Any]:
    """Returns a function like ``torch.vmap`` makes, which runs member by member."""

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


def _seeded(learn: Callable[..., Any], member: MemberTensors, batch: Tensor, key: Key) -> Any:
    """Runs ``learn`` with torch's generators seeded, so that draws that are not keyed follow from the member's key."""
    with seeded(key):
        return learn(member, batch, key)


def _seeded_measure(measure: Callable[..., Any], member: MemberTensors, batch: Any) -> Any:
    """Runs ``measure`` with torch's generators seeded, likewise."""
    with seeded(member.keys["noise"]):
        return measure(member, batch)


def recurrent_allowed() -> Any:
    """Lets torch compile recurrent layers, which it does only when asked to."""
    has_option = hasattr(torch._dynamo.config, "allow_rnn")
    return torch._dynamo.config.patch(allow_rnn=True) if has_option else torch.no_grad()


def compiles(device: torch.device) -> bool:
    """Returns True if torch can compile on the device; warns if it cannot."""
    try:
        torch.compile(torch.neg, fullgraph=True)(torch.ones(2, device=device))
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        warnings.warn(f"compile=True needs a compiler for {device}: training goes on without ({reason})", stacklevel=3)
        return False
    return True
