"""Kernels: a mechanism as what it must know of a whole layer, what it draws, and an elementwise rule.

The same kernel runs on trees, as a pure function (here), and in place over parts of layers, eager or compiled.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from optree import tree_flatten, tree_map, tree_unflatten
from torch import Tensor

from funcbio.base import Key, Tree
from funcbio.rng import Law, draw_tree

WEIGHT, GRAD = "weight", "grad"


class Draw(NamedTuple):
    """Random numbers of a kernel.

    Attributes:
        stream: Name of the stream; a layer's is this and the name of its weight.
        law: Their distribution.
        like: The operand that gives the shape; "one" is a single number for each layer.
    """

    stream: str
    law: Law
    like: str = "rate"


@dataclass(frozen=True)
class Kernel:
    """A mechanism for one layer.

    Operands are named ``weight``, ``grad`` or as a field of the state. A rule is called with those it reads and the
    draws, in order, as ``known`` with what the statistics found, and with the hyper-parameters. But for ``known`` it
    must be elementwise: it is also called on parts of a layer, and on several small layers at once.

    Attributes:
        rule: The elementwise rule; returns the new value of what it writes, a tuple if that is not exactly one.
        reads: Names of the operands; one that ends in "?" is None where the state has none.
        writes: Names of the operands it changes; ``replaced`` is new, bool.
        draws: What it draws.
        statistics: From whole operands, in order of ``of``, to a tuple of tensors of no dimensions; None if none.
        of: Names of the operands of the statistics.
        marks: Fields of the state; a layer takes part if its leaf in each has dimensions.
        fills: Whether the rule takes ``out``, a tensor to write the result to.
    """

    rule: Callable[..., Any]
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    draws: tuple[Draw, ...] = ()
    statistics: Callable[..., tuple[Tensor, ...]] | None = None
    of: tuple[str, ...] = (WEIGHT,)
    marks: tuple[str, ...] = ("rate",)
    fills: bool = False

    def know(self, operands: Sequence[Any]) -> dict[str, tuple[Tensor, ...]]:
        """The statistics of one layer, as the keyword of the rule."""
        return {} if self.statistics is None else {"known": self.statistics(*operands)}

    def needs(self) -> frozenset[str]:
        """Names of all operands, of the rule, the statistics and the marks."""
        return frozenset(map(bare, (*self.reads, *self.of, *self.marks)))


def run_kernel(
    kernel: Kernel, params: Tree, grads: Tree, state: Any, /, *, key: Key | None = None, **hyper: Any
) -> tuple[Tree, Tree, Any]:
    """Runs a kernel on every synapse of the trees, as a pure function."""
    trees = {WEIGHT: params, GRAD: grads}
    treedef = tree_flatten(params)[1]

    def column(name: str) -> list[Any]:
        tree: Any = trees[name] if name in trees else getattr(state, name, ())
        leaves = tree_flatten(tree)[0]
        if name == "updates":
            return leaves * treedef.num_leaves
        return leaves if leaves else [None] * treedef.num_leaves

    def drawn(draw: Draw) -> list[Any]:
        like = state.rate if draw.like == "rate" else state.activity
        if draw.like == "one":
            like = tree_map(lambda leaf: leaf[(slice(0, 1),) * leaf.ndim], like)
        return tree_flatten(draw_tree(draw.law, key, draw.stream, like))[0]

    columns = {name: column(name) for name in dict.fromkeys((*map(bare, kernel.reads), *kernel.of, *kernel.marks))}
    draws, takes = [drawn(draw) for draw in kernel.draws], [columns[name] for name in kernel.marks]
    results: list[list[Any]] = [column(name) for name in kernel.writes]
    for index in range(treedef.num_leaves):
        if any(mark[index].ndim == 0 for mark in takes):
            for name, result in zip(kernel.writes, results, strict=True):
                if name == "replaced":
                    result[index] = torch.zeros_like(takes[0][index], dtype=torch.bool)
            continue
        operands = [optional(name, columns[bare(name)][index]) for name in kernel.reads]
        known = kernel.know([columns[name][index] for name in kernel.of])
        values = kernel.rule(*operands, *(numbers[index] for numbers in draws), **known, **hyper)
        for result, value in zip(results, results_of(values), strict=True):
            result[index] = value
    new = {name: tree_unflatten(treedef, leaves) for name, leaves in zip(kernel.writes, results, strict=True)}
    params, grads = new.pop(WEIGHT, params), new.pop(GRAD, grads)
    return params, grads, state._replace(**new) if new else state


def results_of(values: Any) -> tuple[Tensor, ...]:
    """What a rule returned, one for each operand written."""
    return values if isinstance(values, tuple) else (values,)


def bare(name: str) -> str:
    """The name of an operand without the mark of an optional one."""
    return name.removesuffix("?")


def optional(name: str, value: Tensor | None) -> Tensor | None:
    """The operand of that name, or None if the state has none of it for this layer."""
    return None if name.endswith("?") and (value is None or value.ndim == 0) else value
