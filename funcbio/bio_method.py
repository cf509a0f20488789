"""The methods of a converted model: each runs a method of every layer's BioModule."""

import warnings
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from funcbio.bind import ROWS
from funcbio.bio_checks import NO_GRADIENTS, check_method
from funcbio.bio_module import BioModule
from funcbio.choice import LAYERS
from funcbio.observe import run_once
from funcbio.sharding import holds_everywhere, local, reshard

HEALS = ("rejuvenate_weights", "rejuvenate_weights_old")


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
        reshard(self.model)
        bio_mods = self._layers()
        advances = self.name in ROWS or self.name in HEALS or any(self.name in bio.features for bio in bio_mods)
        if advances and overflowed(self.model, heals=self.name in HEALS):
            return self._nothing(bio_mods)
        if self.name == "update_fuzzy_learning_rates":
            args, kwargs = self._observe(bio_mods, *args, **kwargs), {}
        results = {bio.synapse.weight: getattr(bio, self.name)(*args, **kwargs) for bio in bio_mods}
        if self.name == "l1_reg":
            return sum(results.values())
        return results if any(result is not None for result in results.values()) else None

    def _layers(self) -> list[BioModule]:
        """The layers to run on, all of them able to."""
        if not torch.compiler.is_compiling():
            warn_of_added(self.model, self.left_out)
        bio_mods = list({id(bio.weight): bio for bio in reversed(bio_modules(self.model))}.values())[::-1]
        if self.name == "scale_grad":
            bio_mods = [bio for bio in bio_mods if bio.synapse.observable]
        if any(bio.needs_grad(self.name) for bio in bio_mods):
            bio_mods = [bio for bio in bio_mods if bio.has_gradient()]
            if not bio_mods:
                raise RuntimeError(f"{NO_GRADIENTS}: call backward() before {self.name}()")
        for bio in bio_mods:
            check_method(bio, self.name)
        return bio_mods

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
            reshard(self.model)
        return ()

    def _nothing(self, bio_mods: list[BioModule]) -> dict[str, Tensor] | None:
        if self.name not in HEALS:
            return None
        return {bio.synapse.weight: torch.zeros_like(bio.weight, dtype=torch.bool) for bio in bio_mods}


def bio_modules(model: nn.Module) -> list[BioModule]:
    """Returns the BioModule of every converted weight, in order of registration."""
    return [module for module in model.modules() if isinstance(module, BioModule)]


def plain_layers(model: nn.Module) -> list[str]:
    """Names of the linear and convolutional layers that have no BioModule, nor share a weight with one that has."""
    treated = {id(bio.weight) for bio in bio_modules(model)}
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, LAYERS) and "bio_mod" not in module._modules and id(module.weight) not in treated
    ]


def warn_of_added(model: nn.Module, left_out: frozenset[str]) -> None:
    """Warns of layers that came into the model after its conversion."""
    added = [name for name in plain_layers(model) if name not in left_out]
    if added:
        warnings.warn(
            f"the layers of a converted model should all be converted; found {', '.join(added)}, "
            "added or replaced since: convert the model again, and load its state",
            stacklevel=4,
        )


def overflowed(model: nn.Module, *, heals: bool = False) -> bool:
    """Whether a gradient is not finite; if ``heals``, only where that is not for weights that are not finite."""
    if torch.compiler.is_compiling():
        return False
    grads = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    return not all_finite(grads) and not (heals and not all_finite(model.parameters()))


@torch.no_grad()
def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether all elements are finite: a sum shows it fast, unless the sum itself overflows."""
    tensors = list(tensors)
    parts = [local(tensor) for tensor in tensors]
    sums = [part.sum() for part in parts]
    finite = all(bool(s.isfinite()) or bool(p.isfinite().all()) for s, p in zip(sums, parts, strict=True))
    return holds_everywhere(finite, tensors)
