"""The layers of a model that a handle treats: their weights are in its optimizer, and no other handle treats them."""

from collections.abc import Iterable
from typing import Any
from weakref import WeakKeyDictionary, ref

import torch
from torch import nn
from torch.optim import Optimizer

from funcbio._checks import kind_of
from funcbio.attachment._optimizers import groups_by_weight
from funcbio.attachment._signals import Listening
from funcbio.base import listed
from funcbio.mechanisms import Row
from funcbio.objects._buffers import places_of
from funcbio.objects._kept import Bare, bare_parameters, keep
from funcbio.objects._layer import BioLayer
from funcbio.objects._survey import Overview

_owners: "WeakKeyDictionary[BioLayer, ref[Any]]" = WeakKeyDictionary()


def owner_of(bio: BioLayer) -> Any:
    """Returns the handle that treats a layer; None if none does."""
    reference = _owners.get(bio)
    return None if reference is None else reference()


def claim(bios: Iterable[BioLayer], handle: Any) -> None:
    """Records the handle of some layers; raises ValueError, with nothing recorded, if another handle treats one."""
    bios = list(bios)
    for bio in bios:
        if owner_of(bio) not in (None, handle):
            raise ValueError(
                f"{bio.synapse.weight} should be attached once; found a handle that treats it: call its remove() first"
            )
    for bio in bios:
        _owners[bio] = ref(handle)
        bio.attached = True


def release(handle: Any) -> None:
    """Forgets what a handle treated."""
    for bio in [bio for bio, owner in _owners.items() if owner() is handle]:
        bio.attached = False
        del _owners[bio]


def of_optimizer(bios: Iterable[BioLayer], optimizer: Optimizer | None) -> list[BioLayer]:
    """Returns the layers whose weights an optimizer holds; all if there is none."""
    in_optimizer = groups_by_weight(optimizer)
    return [bio for bio in bios if optimizer is None or id(bio.weight) in in_optimizer]


class Layers:
    """Holds the layers that a handle treats, looked up in every step.

    Args:
        model: The converted model.
        optimizer: The optimizer, or None.
        handle: The handle.
    """

    def __init__(self, overview: Overview, optimizer: Optimizer | None, handle: Any) -> None:
        self.overview, self.optimizer, self.handle = overview, optimizer, handle
        self.current: list[BioLayer] = []
        self.mark: object = None
        self.parameters: list[int] = []
        self.trained = False
        self.made: list[tuple[nn.Module, str]] = []
        self.kept: list[int] = []
        self.beside: tuple[Any, list[int], list[Bare]] = (None, [], [])
        self.listening: Listening | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Leaves the layers out of copies and pickles: a copy has to take its own."""
        return {**vars(self), "current": [], "mark": None, "kept": [], "beside": (None, [], [])}

    def look(self) -> list[BioLayer]:
        """Returns the current layers, also those of parameters that the optimizer was given since.

        Raises:
            RuntimeError: If a layer has left the model or the optimizer, as after another conversion of the model.
        """
        survey = self.overview.look()
        parameters = (
            [] if self.optimizer is None else [id(p) for group in self.optimizer.param_groups for p in group["params"]]
        )
        if survey.mark is not None and survey.mark is self.mark and parameters == self.parameters:
            return self.current
        layers = of_optimizer(survey.layers(), self.optimizer)
        if layers != self.current:
            gone = [bio.synapse.weight for bio in self.current if bio not in layers]
            if gone:
                raise RuntimeError(
                    f"the layers attached should stay in the model and its optimizer; found {listed(gone)} gone, "
                    "replaced or converted again since: call remove(), and attach again"
                )
            check_names(layers)
            claim(layers, self.handle)
            self.current = layers
        trained = any(bio.participates for bio in layers)
        if layers and self.trained and not trained:  # Frozen since; who attaches to frozen weights was told then.
            self.overview.warn_of_nothing("mechanisms")
        self.trained, self.mark, self.parameters = trained, survey.mark, parameters
        return layers

    def parts(self) -> list[Any]:
        """Returns the current layers and, where mechanisms act on them, the other parameters; with what they keep."""
        layers = self.look()
        rows = [mechanism.row for mechanism in self.handle.mechanisms]
        parts = [*layers, *self.others()] if any(row.on_trees for row in rows) else layers
        parameters = [id(part.weight) for part in parts]
        if parameters != self.kept and parts:
            self.made += keep(parts, rows, parts[0].config)
            self.kept = parameters
        return parts

    def names(self) -> list[str]:
        """Returns the names of the parameters that mechanisms act on, as they were last seen."""
        rows = [mechanism.row for mechanism in self.handle.mechanisms if mechanism.row.on_trees]
        beside = [one for one in self.beside[2] if any(_treats(row, one) for row in rows)]
        return [one.synapse.weight for one in (*self.current, *beside)]

    def aging(self, parts: list[Any]) -> list[Any]:
        """Returns those of the parts whose ages count: biases and norms start anew with a unit only."""
        return parts if self.listening is not None else self.current

    def others(self) -> list[Bare]:
        """Returns the trained parameters of the optimizer that no layer treats."""
        modules, parameters, found = self.beside
        current = None if self.overview.survey is None else self.overview.survey.modules
        if modules is not current or parameters != self.parameters:
            in_optimizer = groups_by_weight(self.optimizer)
            found = bare_parameters(self.overview.model, self.current)
            found = [one for one in found if self.optimizer is None or id(one.weight) in in_optimizer]
            self.beside = current, self.parameters, found
        return [one for one in found if one.participates]


def _treats(row: Row, one: Bare) -> bool:
    """Returns True if a mechanism acts on a parameter beside the layers: what it keeps of others is empty."""
    needed, (place,) = row.keeps(one.config), places_of([one])
    return row.by_unit or not needed or any(place.buffers().get(field, torch.empty(())).ndim for field in needed)


def check_names(bios: Iterable[BioLayer]) -> None:
    """Raises ValueError if two layers have one name, as in a model whose parts were converted one by one."""
    names = [bio.synapse.weight for bio in bios]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"layers should have names of their own; found {twice[0]} twice: convert the model as a whole")


def model_of(model: object) -> nn.Module:
    """Returns the module; raises TypeError if the argument is none."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"model should be an nn.Module; found {kind_of(model)}")
    return model
