"""Kernels: a mechanism as statistics of a whole layer, draws, and an elementwise rule.

The same kernel runs leaf by leaf, in tiles, or compiled; all of them call ``apply``, so that they compute in the same
type and round at the same place.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from funcbio._checks import Limit
from funcbio.rng import Law
from funcbio.tensors._arithmetic import number, rounded, work_type

WEIGHT, GRAD = "weight", "grad"
FULL = frozenset({"weight", "grad", "rate"})
"""Operands with an element for each of the weight's: every kernel that draws reads one."""
Operands = Mapping[str, Any]
"""Tensors by name; None where a layer has none of that name."""


class Draw(NamedTuple):
    """Describes random numbers of a kernel.

    Attributes:
        stream: Name of the stream; a layer's is this and the name of its weight.
        law: Their distribution.
        like: The operand that gives the shape; "one" is a single number for each layer.
        fine: Whether the numbers are made in float64, whatever the weights are: fine enough to choose any element.
    """

    stream: str
    law: Law
    like: str = "rate"
    fine: bool = False


@dataclass(frozen=True)
class Kernel:
    """Describes a mechanism for one layer.

    Operands are named ``weight``, ``grad`` or as a field of the state. A rule is called with those it reads and the
    draws, in order, as ``statistics`` with what these found, and with the hyper-parameters as tensors of no dimensions:
    all of one floating type, float32 or wider. But for ``statistics`` it must be elementwise: it is also called on
    parts of a layer, and on several small layers at once.

    Attributes:
        rule: The elementwise rule; returns the new value of what it writes, a tuple if that is not exactly one.
        reads: Names of the operands; one that ends in "?" is None where the state has none.
        writes: Names of the operands it changes, of those it reads; ``replaced`` is new, bool.
        draws: What it draws.
        statistics: From whole operands, in order of ``of``, to a tuple of tensors of no dimensions; None if none.
        of: Names of the operands of the statistics.
        marks: Fields of the state; a layer takes part if its leaf in each has dimensions.
        limits: Limits of the hyper-parameters, by name; those of the kind ``COUNT`` stay integers.
        advances: Whether every call counts as an update, in the field ``updates``.
        growth: Returns the largest factor on a gradient, from operands and hyper-parameters; None if it writes none.
        in_place: The same rule in place, if one operation computes it; None if there is none.
        by_leaf: Whether it runs leaf by leaf only, so that the rule sees a layer as a whole.
        elementwise: Whether the rule may also see a part of a layer, as on shards; only asked if ``by_leaf``.
        pool: From the statistics of all layers to those that every layer is given; None leaves each its own.
        inputs: Names of the operands that the rule reads, in order, each with True if it is optional.
        whole: Names of the hyper-parameters that are integers, and stay integers.
    """

    rule: Callable[..., Any]
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    draws: tuple[Draw, ...] = ()
    statistics: Callable[..., tuple[Tensor, ...]] | None = None
    of: tuple[str, ...] = (WEIGHT,)
    marks: tuple[str, ...] = ("rate",)
    limits: Mapping[str, Limit] = field(default_factory=dict, compare=False)
    advances: bool = False
    growth: Callable[[Operands, Mapping[str, Any]], float] | None = None
    in_place: Callable[..., None] | None = None
    by_leaf: bool = False
    elementwise: bool = True
    pool: Callable[[Sequence[tuple[Tensor, ...]]], tuple[Tensor, ...]] | None = None
    inputs: tuple[tuple[str, bool], ...] = field(init=False, compare=False, repr=False)
    whole: frozenset[str] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Derives what every call asks for: torch cannot compile a property that Python keeps under a lock."""
        inputs = tuple((bare(name), name.endswith("?")) for name in self.reads)
        whole = frozenset(name for name, limit in self.limits.items() if limit.whole)
        vars(self).update(inputs=inputs, whole=whole)

    def take_statistics(self, operands: Sequence[Any]) -> tuple[Tensor, ...]:
        """Returns the statistics of one layer, from the operands ``of``."""
        return () if self.statistics is None else self.statistics(*operands)

    def needs(self) -> frozenset[str]:
        """Returns the names of all operands, of the rule, the statistics and the marks."""
        return frozenset(map(bare, (*self.reads, *self.of, *self.marks)))

    def work(self, operands: Operands) -> torch.dtype:
        """Returns the type that the rule computes in, and that its draws are made in."""
        return work_type([operands[name] for name, _ in self.inputs])


def apply(
    kernel: Kernel,
    operands: Operands,
    draws: Sequence[Tensor],
    statistics: Sequence[Tensor],
    hyper: Mapping[str, Any],
) -> dict[str, Tensor]:
    """Runs a rule, in one type, and rounds its results once, each to the type of the operand that it replaces.

    Args:
        kernel: The kernel of the rule.
        operands: At least those it reads, of any types.
        draws: What it draws, in order.
        statistics: What ``take_statistics`` returned.
        hyper: Numbers, or tensors of no dimensions.

    Returns:
        What it writes, by name. A rate is never infinite because its type is too small.
    """
    work = kernel.work(operands)
    values = [operands[name] for name, _ in kernel.inputs]
    device = next(value.device for value in values if value is not None)
    numbers = numbers_of(kernel, hyper, work, device)
    if kernel.statistics is not None:
        numbers["statistics"] = tuple([fact.to(work) if fact.is_floating_point() else fact for fact in statistics])
    wide = [None if value is None else value.to(work) for value in values]
    wide += [value if draw.fine else value.to(work) for draw, value in zip(kernel.draws, draws, strict=True)]
    if not kernel.elementwise:  # Sums round by the layout.
        wide = [None if value is None else value.contiguous() for value in wide]
    results = kernel.rule(*wide, **numbers)
    written = zip(kernel.writes, results if isinstance(results, tuple) else (results,), strict=True)
    return {
        name: value if value.dtype == torch.bool else rounded(value, operands[name].dtype, finite=name == "rate")
        for name, value in written
    }


def numbers_of(kernel: Kernel, hyper: Mapping[str, Any], work: torch.dtype, device: torch.device) -> dict[str, Any]:
    """Returns hyper-parameters as tensors of the type that the rule computes in; integers as they are."""
    return {name: value if name in kernel.whole else number(value, work, device) for name, value in hyper.items()}


def bare(name: str) -> str:
    """Returns the name of an operand without the "?" of an optional one."""
    return name.removesuffix("?")


def optional(name: str, value: Tensor | None) -> Tensor | None:
    """Returns the operand of that name, or None if the state has none of it for this layer."""
    return None if name.endswith("?") and (value is None or value.ndim == 0) else value
