"""Layers in the order in which they run: those of one kind together, looked up once for many calls."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from funcbio.engine._compiled import Fused, fused
from funcbio.engine._eager import Pass, passes
from funcbio.engine._layers import Columns, Layer, Step
from funcbio.engine._tiles import keep_freed_memory
from funcbio.tensors._kept import is_watched

TYPED = ("weight", "grad", "rate", "sign", "activity")
"""Operands whose types decide which layers can run together."""
Calls = Sequence[tuple[Layer, Sequence[Step]]]


class Group:
    """Holds layers that run the same steps together.

    Args:
        steps: The steps.
        layers: Plain tensors on one device; every one takes part in every step.
        places: The places of the layers among those that run.
    """

    def __init__(self, steps: Sequence[Step], layers: Sequence[Layer], places: Sequence[int]) -> None:
        self.layers, self.places = layers, places
        # Layers may bring more, and not all of them the same.
        names = {"weight"}.union(*(step.needs for step in steps))
        self.columns: Columns = {name: [layer.operands.get(name) for layer in layers] for name in sorted(names)}
        self.has_grads = "grad" in names
        self.lacks_grads = self.has_grads and any(grad is None for grad in self.columns["grad"])
        self.replaces = any("replaced" in step.kernel.writes for step in steps)
        shapes = tuple([weight.shape for weight in self.columns["weight"]])
        self.passes = [Pass(part, layers, shapes) for part in (passes(steps) if len(steps) > 1 else [steps])]
        self.fused: list[Fused | None] | None = None

    def run(self, finite: Tensor | None, weights: Sequence[Tensor] | None, grads: Sequence[Tensor] | None) -> Columns:
        """Runs the steps; see ``Arranged.run``. Returns the operands, with ``replaced`` if a step writes it."""
        columns: Columns = {**self.columns}
        if weights is not None:
            columns["weight"] = [weights[place] for place in self.places]
        if grads is not None and self.has_grads:
            columns["grad"] = [grads[place] for place in self.places]
        elif self.lacks_grads:
            columns["grad"] = [weight.grad for weight in columns["weight"]]
        if self.replaces:
            columns["replaced"] = [torch.zeros_like(weight, dtype=torch.bool) for weight in columns["weight"]]
        for tiled, program in zip(self.passes, self._programs(columns), strict=True):
            (tiled if program is None else program).run(columns, finite)
        return columns

    def _programs(self, columns: Columns) -> Sequence[Fused | None]:
        """Returns the program of each pass; None where it goes in tiles."""
        if not self.layers[0].compiles or is_watched():
            return [None] * len(self.passes)
        if self.fused is None:
            self.fused = [fused(tiled.steps, self.layers, columns) for tiled in self.passes]
        return self.fused


class Arranged:
    """Runs every layer's steps on it, in place, layers of one kind together; as often as the tensors are the same.

    Args:
        calls: Layers of plain memory, each with those steps that it takes part in. Without a gradient among its
            tensors, a layer's is that of its weight at the time of the call.
    """

    def __init__(self, calls: Calls) -> None:
        self.count = len(calls)
        kinds: dict[Any, tuple[Sequence[Step], list[int]]] = {}
        for index, (layer, steps) in enumerate(calls):
            if steps:
                values = [layer.operands.get(name) for name in TYPED]
                types = [None if value is None or value.ndim == 0 else value.dtype for value in values]
                kind = (*map(id, steps), layer.compiles, layer.operands["weight"].device, *types)
                kinds.setdefault(kind, (steps, []))[1].append(index)
        self.groups = [Group(steps, [calls[at][0] for at in chosen], chosen) for steps, chosen in kinds.values()]

    def run(
        self,
        finite: Tensor | None = None,
        weights: Sequence[Tensor] | None = None,
        grads: Sequence[Tensor] | None = None,
    ) -> list[Tensor | None]:
        """Runs the steps; no gradients are to be recorded.

        Args:
            finite: If given and False, nothing is changed; a tensor, so that the device need not be asked.
            weights: Stand for the layers' weights, one for each call.
            grads: Stand for their gradients.

        Returns:
            Which weights of each layer were replaced; None if no step says so.
        """
        keep_freed_memory()
        replaced: list[Tensor | None] = [None] * self.count
        for group in self.groups:
            columns = group.run(finite, weights, grads)
            for place, mask in zip(group.places, columns.get("replaced", ()), strict=False):
                replaced[place] = mask
        return replaced
