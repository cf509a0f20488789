"""The methods of a converted model: each runs a method of every layer's BioModule, on all layers together."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from funcbio.bind import ROWS
from funcbio.bio_checks import CONFIGURED, NO_GRADIENTS, check_method
from funcbio.bio_finite import finite_gradients
from funcbio.bio_module import BioModule
from funcbio.bio_run import Call, prepare, run_layers, steps_of
from funcbio.bio_survey import bio_modules, once, survey, warn_of_added
from funcbio.inplace import Layer, Step
from funcbio.observe import run_once
from funcbio.sharding import local, reshard

HEALS = ("rejuvenate_weights", "rejuvenate_weights_old")
CALLS: dict[str, Call] = {
    "rejuvenate_weights_old": ("rejuvenate_weights", (("variant", "uniform"),)),
    **{name: (name, ()) for name in ROWS if name in BioModule.exposed_functions},
}
"""The methods that run one row of the table, and with which hyper-parameters."""
HARMLESS = ("fuzzy_learning_rates", "l1_reg")
"""Methods that change nothing but gradients, which stay infinite if they are: they need not look at them first."""


Ready = list[tuple[BioModule, Layer, list[Step]]]


class ModelMethod:
    """A documented method of a converted model.

    It looks at every layer before it changes one: a weight shared by several layers is treated once, layers without a
    gradient are passed over where one is needed, and nothing moves on while a gradient has overflowed, because
    ``torch.amp.GradScaler`` then skips the optimizer's step.

    Args:
        model: The converted model.
        name: Name of the method.
        left_out: Names of the layers that the conversion left plain on purpose.
    """

    def __init__(self, model: nn.Module, name: str, left_out: frozenset[str] = frozenset()) -> None:
        self.model, self.name, self.left_out = model, name, left_out
        self.__doc__ = f"Runs ``{name}`` on every layer with synapses; see ``BioModule.{name}``."

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the method on every layer, and returns what they return, by name of the weight."""
        if torch.compiler.is_compiling():
            return self._results(self._one_by_one(self._taking_part(once(bio_modules(self.model))), *args, **kwargs))
        found = survey(self.model)
        warn_of_added(found.plain, self.left_out)
        reshard(found.modules)
        bio_mods = self._taking_part(found.layers())
        prepared = self._prepare(bio_mods)
        finite: bool | Tensor = True
        if self.name not in HARMLESS and (self.name in CALLS or any(self.name in bio.features for bio in bio_mods)):
            finite = finite_gradients(found.modules, heals=self.name in HEALS)
        if finite is False:
            return self._nothing(bio_mods)
        if self.name == "update_fuzzy_learning_rates":
            args, kwargs = self._observe(bio_mods, *args, **kwargs), {}
            prepared = self._prepare(bio_mods)  # The counts may be copies.
        return self._results(self._together(bio_mods, prepared, finite, *args, **kwargs))

    def _taking_part(self, bio_mods: list[BioModule]) -> list[BioModule]:
        """The layers to run on."""
        if self.name == "scale_grad":
            bio_mods = [bio for bio in bio_mods if bio.synapse.observable]
        if any(bio.needs_grad(self.name) for bio in bio_mods):
            bio_mods = [bio for bio in bio_mods if bio.has_gradient()]
            if not bio_mods:
                raise RuntimeError(f"{NO_GRADIENTS}: call backward() before {self.name}()")
        return bio_mods

    def _prepare(self, bio_mods: list[BioModule]) -> tuple[Ready, list[BioModule]]:
        """What plain layers bring, and the other layers; raises if one of them is not able to run the method."""
        ready, others = [], []
        for bio in bio_mods:
            own = getattr(type(bio), self.name, None) is not getattr(BioModule, self.name, None)
            steps = None if own or self.name not in CALLS else steps_of(bio, [CALLS[self.name]])
            layer = None if steps is None else prepare(bio, steps)
            if layer is None or self.name in CONFIGURED:
                check_method(bio, self.name)
            if layer is None or steps is None:
                others.append(bio)
            else:
                ready.append((bio, layer, steps))
        return ready, others

    def _together(
        self,
        bio_mods: list[BioModule],
        prepared: tuple[Ready, list[BioModule]],
        finite: bool | Tensor,
        *args: Any,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Runs plain layers in few passes, and the method of every other layer."""
        ready, others = prepared
        if others and not bool(finite):
            return self._nothing(bio_mods) or {}
        flag = None if isinstance(finite, bool) else finite
        compiled = any(bio.compiles for bio, _, _ in ready)
        replaced = run_layers([(layer, steps) for _, layer, steps in ready], flag, compiled=compiled)
        results = self._one_by_one(others, *args, **kwargs)
        for bio, layer, _ in ready:
            results[layer.name] = bio.settle(self.name, replaced.get(layer.name))
        return {bio.synapse.weight: results[bio.synapse.weight] for bio in bio_mods}

    def _one_by_one(self, bio_mods: Sequence[BioModule], *args: Any, **kwargs: Any) -> dict[str, Any]:
        if torch.compiler.is_compiling():
            for bio in bio_mods:
                check_method(bio, self.name)
        return {bio.synapse.weight: getattr(bio, self.name)(*args, **kwargs) for bio in bio_mods}

    def _results(self, results: dict[str, Any]) -> Any:
        if self.name == "l1_reg":
            return sum(results.values())
        return results if any(result is not None for result in results.values()) else None

    def _observe(self, bio_mods: list[BioModule], x: Tensor | None = None) -> tuple[()]:
        """Runs the model on its own input if its layers have seen none; they then need no input of their own."""
        dynamic = [bio for bio in bio_mods if bio.moves()]
        if x is not None and dynamic and all(bio.lacks_observation() for bio in dynamic):
            counts = [local(bio.activation_count) for bio in dynamic]
            before = [count.clone() for count in counts]
            try:
                run_once(self.model, x)
            except BaseException:
                for bio, count, old in zip(dynamic, counts, before, strict=True):
                    count.copy_(old)
                    local(bio.observations).zero_()
                raise
            reshard(self.model.modules())
        return ()

    def _nothing(self, bio_mods: list[BioModule]) -> dict[str, Tensor] | None:
        if self.name not in HEALS:
            return None
        return {bio.synapse.weight: torch.zeros_like(bio.weight, dtype=torch.bool) for bio in bio_mods}
