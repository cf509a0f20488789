"""The methods of a converted model: each runs a method of every layer's BioModule, on all layers together."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from funcbio.functional._observe import run_once
from funcbio.mechanisms import ROWS, Row
from funcbio.objects._calls import Prepared, prepare, takes_part
from funcbio.objects._checks import NO_GRADIENTS, check_configured, check_method
from funcbio.objects._finite import finite_gradients
from funcbio.objects._layer import BioLayer
from funcbio.objects._ready import finished
from funcbio.objects._survey import Overview, Survey, bio_modules, once
from funcbio.tensors._sharding import local, reshard


class Plan(NamedTuple):
    """Holds the layers that a method runs on, and its row of the table."""

    prepared: Prepared
    row: Row | None


class ModelMethod:
    """Runs a documented method of a converted model.

    It looks at every layer before it changes one: a weight shared by several layers is treated once, layers without a
    gradient are passed over where one is needed, and nothing moves on while a gradient has overflowed, because
    ``torch.amp.GradScaler`` then skips the optimizer's step.

    Args:
        overview: The overview of the converted model.
        name: Name of the method.
        summed: Whether the layers' methods change nothing and return numbers, of which this one returns the sum.
    """

    takes_trees = False

    def __init__(self, overview: Overview, name: str, *, summed: bool = False) -> None:
        self.overview, self.name, self.summed = overview, name, summed
        self.__doc__ = f"Runs ``{name}`` on every layer with synapses; see ``BioModule.{name}``."

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the method on every layer, and returns the results by name of the weight."""
        if torch.compiler.is_compiling():
            return self._in_a_graph(*args, **kwargs)
        survey = self.overview.look()
        plan = self.plan(survey)
        finite = self.verdict(survey, plan)
        if finite is False:
            return self._nothing(plan)
        if plan.row is not None and plan.row.counts:
            if self._observe(plan.prepared.bios, *args, **kwargs):
                plan = self.plan(self.overview.look())  # The counts may be copies.
            args, kwargs = (), {}  # The model has seen its input; the layers need none of their own.
        return self._results(self._together(plan, finite, *args, **kwargs), plan.row)

    def __repr__(self) -> str:
        """Returns the call and the kind of model that it acts on."""
        return f"<{self.name}() of {type(self.overview.model).__name__}>"

    def plan(self, survey: Survey) -> Plan:
        """Looks at every layer without changing it.

        Raises:
            RuntimeError: If the method cannot run on a layer as it is, or needs gradients and there are none.
            AttributeError: If the configuration of a layer does not allow it.
        """

        def look() -> Prepared:
            bio_mods = self._taking_part(survey.layers())
            self.overview.warn_of_idle(self.row(bio_mods), bio_mods)
            self.overview.expect_step(self.row(bio_mods), self.name, bio_mods)
            return prepare((bio, [(self.name, bio.row(self.name))]) for bio in bio_mods)

        prepared = self.overview.plans.get(self.name, survey.mark, look)
        return Plan(prepared, self.row(prepared.bios))

    def verdict(self, survey: Survey, plan: Plan) -> bool | Tensor:
        """Returns True if the method may act: one that looks at gradients does not while they have overflowed."""
        if plan.row is None or plan.row.ignores_overflow:
            return True
        return finite_gradients(survey.modules, heals=plan.row.replaces)

    def row(self, bio_mods: Sequence[BioLayer]) -> Row | None:
        """Returns the layers' row of the method, the table's if there are no layers; None if it has none."""
        rows = (bio.row(self.name) for bio in bio_mods)
        return next((row for row in rows if row is not None), ROWS.get(self.name))

    def _in_a_graph(self, *args: Any, **kwargs: Any) -> Any:
        bio_mods = self._taking_part(once(bio_modules(self.overview.model)))
        for bio in bio_mods:
            check_method(bio, bio.row(self.name))
        return self._results(self._one_by_one(bio_mods, *args, **kwargs), self.row(bio_mods))

    def _taking_part(self, bio_mods: list[BioLayer]) -> list[BioLayer]:
        """Returns the layers to run on."""
        row = self.row(bio_mods)
        if row is not None:
            bio_mods = [bio for bio in bio_mods if row.is_for(bio.synapse)]
        chosen = bio_mods if self.summed else [bio for bio in bio_mods if takes_part(bio, bio.row(self.name))]
        if bio_mods and not chosen:
            if row is not None and row.needs_grad:
                raise RuntimeError(f"{NO_GRADIENTS}: call backward() before {self.name}()")
            if row is not None:
                check_configured(bio_mods[0], row)
            self.overview.warn_of_nothing(f"{self.name}()")
        return chosen

    def _together(self, plan: Plan, finite: bool | Tensor, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Runs plain layers in few passes, and the method of every other layer."""
        bios, ready, alone = plan.prepared
        if alone and not bool(finite):
            return self._nothing(plan) or {}
        flag = None if isinstance(finite, bool) else finite
        masks = ready.run(flag)
        results = finished(ready, plan.row, masks, flag)
        if not alone:
            return results
        results.update(self._one_by_one(alone, *args, **kwargs))
        return {bio.synapse.weight: results[bio.synapse.weight] for bio in bios}

    def _one_by_one(self, bio_mods: Sequence[BioLayer], *args: Any, **kwargs: Any) -> dict[str, Any]:
        return {bio.synapse.weight: getattr(bio, self.name)(*args, **kwargs) for bio in bio_mods}

    def _results(self, results: dict[str, Any], row: Row | None) -> Any:
        if self.summed:
            return sum(results.values())
        replaces = row is not None and row.replaces
        return results if replaces or any(result is not None for result in results.values()) else None

    def _observe(self, bio_mods: list[BioLayer], x: Tensor | None = None) -> bool:
        """Runs the model on its own input if its layers have seen none; returns True if it did."""
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

    def _nothing(self, plan: Plan) -> dict[str, Tensor] | None:
        if plan.row is None or not plan.row.replaces:
            return None
        return {bio.synapse.weight: torch.zeros_like(bio.weight, dtype=torch.bool) for bio in plan.prepared.bios}
