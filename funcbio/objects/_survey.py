"""The parts of a converted model: looked up once, and again when its modules have changed."""

import warnings
from collections.abc import Collection
from typing import Any, NamedTuple

import torch
from torch import nn

from funcbio.anatomy._choice import LAYERS
from funcbio.base import DaleWarning, listed
from funcbio.functional._idle import outside, warn
from funcbio.mechanisms import Row
from funcbio.objects._calls import Plans
from funcbio.objects._cancelled import await_step, matters, stop_waiting
from funcbio.objects._layer import BioLayer
from funcbio.objects._watch import Watch, watch
from funcbio.tensors._sharding import reshard

NOTHING, STEPPED = "nothing is trained", "an optimizer has stepped"
"""What is said once, or looked at once, beside the reasons why methods do nothing."""


class Survey(NamedTuple):
    """Holds the parts of a model.

    Attributes:
        modules: All modules, in the order of ``model.modules()``.
        bio_mods: The BioModule of every converted weight.
        plain: Names of layers without one.
        mark: Is the same object as long as all layers are as they were; None if that is not known.
    """

    modules: list[nn.Module]
    bio_mods: list[BioLayer]
    plain: list[str]
    mark: Watch | None = None

    def layers(self) -> list[BioLayer]:
        """Returns one BioModule for each weight."""
        return once(self.bio_mods)


def once(bio_mods: list[BioLayer]) -> list[BioLayer]:
    """Returns one BioModule for each weight: a weight that several layers share is treated once."""
    return list({id(bio.weight): bio for bio in reversed(bio_mods)}.values())[::-1]


class Overview:
    """Looks up the parts of a converted model; all its methods share one, which is kept on the model.

    Args:
        model: The converted model.
        left_out: Names of the layers that the conversion left plain on purpose.
    """

    def __init__(self, model: nn.Module, left_out: frozenset[str] = frozenset()) -> None:
        self.model, self.left_out = model, left_out
        self.survey: Survey | None = None
        self.parents: list[tuple[Any, list[Any]]] = []
        self.leaves: list[Any] = []
        self.plans = Plans()
        self.warned: set[str] = set()

    def look(self) -> Survey:
        """Returns the current ``Survey`` of the model. Warns of layers added since; gathered shards are let go."""
        if self.survey is None or not self._has_same_modules():
            self._look_again()
        assert self.survey is not None
        if self.survey.plain:
            warn_of_added(self.survey.plain, self.left_out)
        reshard(self.survey.modules)
        mark = self.survey.mark
        if mark is None or not mark.holds():
            self.survey = self.survey._replace(mark=watch(self.survey.bio_mods))
        return self.survey

    def _has_same_modules(self) -> bool:
        """Returns True if every module has the children that it had."""
        # Lists, because generators take twice as long.
        return not any(self.leaves) and all([[*table.values()] == known for table, known in self.parents])  # noqa: C419

    def _look_again(self) -> None:
        """Looks the modules up, and all that follows from them if they are others."""
        modules = every_module(self.model)
        self.parents = [(one._modules, [*one._modules.values()]) for one in modules if one._modules]
        self.leaves = [one._modules for one in modules if not one._modules]
        if self.survey is None or self.survey.modules != modules:
            self.survey = Survey(modules, bio_modules(self.model), plain_layers(self.model))
            self.plans = Plans()

    def warn_of_nothing(self, what: str) -> None:
        """Warns, once, that all weights that could be treated are frozen."""
        reason = (
            f"{what} should find weights that are trained; found requires_grad=False on all of them, which are "
            "left alone: give synapses= their full names to treat them all the same"
        )
        if NOTHING not in self.warned and not torch.compiler.is_compiling():
            self.warned.add(NOTHING)
            warn([reason])

    def warn_of_idle(self, row: Row | None, layers: list[BioLayer]) -> None:
        """Warns, once, that a method changes nothing, if that is so for all layers."""
        if row is None or row.idle is None:
            return
        reasons = [reason for bio in layers if (reason := row.idle(bio.config)) is not None]
        if reasons and len(reasons) == len(layers):
            warn([reason for reason in reasons[:1] if reason not in self.warned])
            self.warned.add(reasons[0])

    def expect_step(self, row: Row | None, name: str, layers: list[BioLayer]) -> None:
        """Waits, once, for the first steps after a method whose effect may be lost in them."""
        stop_waiting()
        if row is not None and STEPPED not in self.warned and matters(row, layers):
            await_step(self, name, row)

    def see_step(self) -> None:
        """Notes that enough steps were seen; methods look at the layers anew, so that the hook can be taken away."""
        self.warned.add(STEPPED)
        self.plans = Plans()

    def treated(self) -> list[BioLayer]:
        """Returns the layers with synapses, as they were last seen."""
        return [] if self.survey is None else self.survey.bio_mods

    def __getstate__(self) -> dict[str, Any]:
        """Leaves what can be looked up again out of copies and pickles."""
        return {**vars(self), "survey": None, "parents": [], "leaves": [], "plans": Plans()}


def every_module(model: nn.Module) -> list[nn.Module]:
    """Returns the modules of a model, in the order of ``model.modules()``, in a fraction of its time."""
    modules: dict[nn.Module, None] = {}
    waiting = [model]
    while waiting:
        module = waiting.pop()
        if module not in modules:
            modules[module] = None
            waiting.extend(child for child in reversed(module._modules.values()) if child is not None)
    return list(modules)


def bio_modules(model: nn.Module) -> list[BioLayer]:
    """Returns the BioModule of every converted weight, in order of registration."""
    return [module for module in model.modules() if isinstance(module, BioLayer)]


def plain_layers(model: nn.Module) -> list[str]:
    """Returns names of linear and convolutional layers without a BioModule, unless their weight has one elsewhere."""
    treated = {id(bio.weight) for bio in bio_modules(model)}
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, LAYERS) and "bio_mod" not in module._modules and id(module.weight) not in treated
    ]


def warn_of_matrices() -> None:
    """Warns that Dale's principle holds by weight matrix, and says how to have it by unit."""
    warnings.warn(
        "apply_dales_principle should know which unit feeds which weights; found no table of units: so a unit may "
        "excite through one weight matrix and inhibit through another. Give units=funcbio.units(model, example) for "
        "one sign of each unit, or dales_variant='matrix' to have signs by matrix",
        DaleWarning,
        stacklevel=outside(),
    )


def warn_of_free(bios: list[BioLayer], free: Collection[str]) -> None:
    """Warns of weights that units feed and that have no sign, some or all of them; those exempt anyway are left out."""
    names = [bio.synapse.weight for bio in bios if bio.synapse.weight in free and bio.sign.ndim]
    if names:
        warnings.warn(
            f"apply_dales_principle should find one sign for what each input carries; found {listed(names)} "
            "with inputs in which units arrive mixed, or with something that has no sign: weights of those are free",
            DaleWarning,
            stacklevel=outside(),
        )


def warn_of_no_signs(bios: list[BioLayer]) -> None:
    """Warns if Dale's principle applies to no layer, because those that could have signs are frozen."""
    frozen = [bio.synapse.weight for bio in bios if not bio.participates and not bio.synapse.readout]
    if frozen and all(bio.sign.ndim == 0 for bio in bios):
        warnings.warn(
            f"apply_dales_principle should find weights that are trained; found {listed(frozen)} with "
            "requires_grad=False: they keep their values and have no signs",
            stacklevel=outside(),
        )


def warn_of_added(plain: list[str], left_out: frozenset[str]) -> None:
    """Warns of layers that came into the model after its conversion."""
    added = [name for name in plain if name not in left_out]
    if added:
        warnings.warn(
            f"the layers of a converted model should all be converted; found {listed(added)}, "
            "added or replaced since: convert the model again, and load its state",
            stacklevel=4,
        )
