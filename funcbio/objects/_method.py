"""The methods of a converted model: each runs a method of every layer's BioModule, on all layers together."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from funcbio.engine._layers import Layer, Step
from funcbio.functional._observe import run_once
from funcbio.mechanisms import ROWS, Row
from funcbio.objects._checks import NO_GRADIENTS, check_configured, check_method
from funcbio.objects._finite import finite_gradients
from funcbio.objects._layer import BioLayer
from funcbio.objects._memory import check_apart
from funcbio.objects._ready import bring, run_calls, steps_of
from funcbio.objects._survey import Overview, Survey, bio_modules, once
from funcbio.tensors._sharding import local, reshard

Ready = list[tuple[BioLayer, Layer, list[Step]]]


class Plan(NamedTuple):
    """Which layers a method runs on: those that are plain memory with what they bring, and the others."""

    bio_mods: list[BioLayer]
    ready: Ready
    others: list[BioLayer]


class ModelMethod:
    """A documented method of a converted model.

    It looks at every layer before it changes one: a weight shared by several layers is treated once, layers without a
    gradient are passed over where one is needed, and nothing moves on while a gradient has overflowed, because
    ``torch.amp.GradScaler`` then skips the optimizer's step.

    Args:
        overview: Of the converted model.
        name: Name of the method.
        summed: Whether the layers' methods change nothing and return numbers, of which this one returns the sum.
    """

    def __init__(self, overview: Overview, name: str, *, summed: bool = False) -> None:
        self.overview, self.name, self.summed = overview, name, summed
        self.__doc__ = f"Runs ``{name}`` on every layer with synapses; see ``BioLayer.{name}``."

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the method on every layer, and returns what they return, by name of the weight."""
        if torch.compiler.is_compiling():
            return self._results(self._in_a_graph(*args, **kwargs))
        found = self.overview.look()
        plan = self.plan(found.layers())
        finite = self.verdict(found, plan)
        if finite is False:
            return self._nothing(plan.bio_mods)
        row = self.row(plan.bio_mods)
        if row is not None and row.counts:
            if self._observe(plan.bio_mods, *args, **kwargs):
                plan = self.plan(found.layers())  # The counts may be copies.
            args, kwargs = (), {}  # The model has seen its input; the layers need none of their own.
        return self._results(self._together(plan, finite, *args, **kwargs))

    def plan(self, bio_mods: list[BioLayer]) -> Plan:
        """Looks at every layer, and changes nothing.

        Raises:
            RuntimeError: If the method cannot run on a layer as it is, or needs gradients and there are none.
            AttributeError: If the configuration of a layer does not allow it.
        """
        bio_mods = self._taking_part(bio_mods)
        self.overview.warn_of_idle(self.row(bio_mods), bio_mods)
        ready, others = [], []
        for bio in bio_mods:
            brought = self._brought(bio)
            if brought is None or not bio.inherits([self.name]):
                others.append(bio)
            else:
                ready.append((bio, *brought))
        ours = [bio for bio in others if bio.row(self.name) is not None]
        alone = [(bio, steps_of(bio, [self.name]) if bio.inherits([self.name]) else None) for bio in ours]
        check_apart([*((bio, steps) for bio, _, steps in ready), *alone])
        return Plan(bio_mods, ready, others)

    def verdict(self, found: Survey, plan: Plan) -> bool | Tensor:
        """Returns whether the method may act: not while a gradient has overflowed, if it looks at them."""
        row = self.row(plan.bio_mods)
        if row is None or row.ignores_overflow:
            return True
        return finite_gradients(found.modules, heals=row.replaces)

    @property
    def replaces(self) -> bool:
        """Returns True for a method of the table that says which weights it replaced."""
        return self.name in ROWS and ROWS[self.name].replaces

    def row(self, bio_mods: Sequence[BioLayer]) -> Row | None:
        """Returns what the table holds of the method; None if it holds nothing, or there are no layers."""
        return next((row for row in (bio.row(self.name) for bio in bio_mods) if row is not None), None)

    def _brought(self, bio: BioLayer) -> tuple[Layer, list[Step]] | None:
        if bio.row(self.name) is not None:
            return bring(bio, [self.name])
        check_method(bio, None)
        return None

    def _in_a_graph(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        bio_mods = self._taking_part(once(bio_modules(self.overview.model)))
        for bio in bio_mods:
            check_method(bio, bio.row(self.name))
        return self._one_by_one(bio_mods, *args, **kwargs)

    def _taking_part(self, bio_mods: list[BioLayer]) -> list[BioLayer]:
        """The layers to run on."""
        row = self.row(bio_mods)
        if row is not None and row.per_unit:
            bio_mods = [bio for bio in bio_mods if bio.synapse.observable]
        chosen = [bio for bio in bio_mods if bio.participates or self.summed]
        if row is not None and row.needs_grad and bio_mods:
            chosen = [bio for bio in chosen if bio.has_gradient()]
            if not chosen:
                raise RuntimeError(f"{NO_GRADIENTS}: call backward() before {self.name}()")
        if bio_mods and not chosen:
            if row is not None:
                check_configured(bio_mods[0], row)
            self.overview.warn_of_nothing(f"{self.name}()")
        return chosen

    def _together(self, plan: Plan, finite: bool | Tensor, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Runs plain layers in few passes, and the method of every other layer."""
        bio_mods, ready, others = plan
        if others and not bool(finite):
            return self._nothing(bio_mods) or {}
        flag = None if isinstance(finite, bool) else finite
        replaced = run_calls([(layer, steps) for _, layer, steps in ready], flag)
        results = self._one_by_one(others, *args, **kwargs)
        for bio, layer, _ in ready:
            results[layer.name] = bio.finish(bio.row(self.name), replaced.get(layer.name), flag)
        return {bio.synapse.weight: results[bio.synapse.weight] for bio in bio_mods}

    def _one_by_one(self, bio_mods: Sequence[BioLayer], *args: Any, **kwargs: Any) -> dict[str, Any]:
        return {bio.synapse.weight: getattr(bio, self.name)(*args, **kwargs) for bio in bio_mods}

    def _results(self, results: dict[str, Any]) -> Any:
        if self.summed:
            return sum(results.values())
        return results if self.replaces or any(result is not None for result in results.values()) else None

    def _observe(self, bio_mods: list[BioLayer], x: Tensor | None = None) -> bool:
        """Runs the model on its own input if its layers have seen none; returns whether it did."""
        dynamic = [bio for bio in bio_mods if bio.moves()]
        if x is None or not dynamic or not all(bio.lacks_observation() for bio in dynamic):
            return False
        model, counts = self.overview.model, [local(bio.activation_count) for bio in dynamic]
        before = [count.clone() for count in counts]
        try:
            run_once(model, x)
        except BaseException:
            for bio, count, old in zip(dynamic, counts, before, strict=True):
                count.copy_(old)
                local(bio.observations).zero_()
            raise
        reshard(model.modules())
        return True

    def _nothing(self, bio_mods: list[BioLayer]) -> dict[str, Tensor] | None:
        if not self.replaces:
            return None
        return {bio.synapse.weight: torch.zeros_like(bio.weight, dtype=torch.bool) for bio in bio_mods}
