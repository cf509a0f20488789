"""Signals of units between the steps of an optimizer, and running statistics of units that are new."""

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from funcbio._checks import require
from funcbio.anatomy._fitting import require_fitting
from funcbio.anatomy._units import Units
from funcbio.base import BioState, IdleWarning
from funcbio.bio_config import BioConfig
from funcbio.functional._idle import outside
from funcbio.functional._signals import RUNNING, Recorder, centered, statistics_of_new
from funcbio.mechanisms._placed import Mechanism
from funcbio.mechanisms._row import units_of
from funcbio.mechanisms._unit_fields import DEVIATION, NEW, RECORDED
from funcbio.objects._buffers import UNITS, Place, kept_state, places_in

EMPTY = {**dict.fromkeys(RECORDED, math.nan), NEW: False}
"""What stands where nothing was recorded, and no unit is new."""


def with_units(mechanisms: Iterable[Mechanism], units: Any, model: nn.Module) -> list[Mechanism]:
    """Returns mechanisms, those on units with the table of the model's units.

    Raises:
        ValueError: If there is no table, or it is not one of this model.
    """
    chosen = [*mechanisms]
    named = next((one.name for one in chosen if one.row.by_unit), None)
    require("units", units, "a table made by funcbio.units, or None", units is None or isinstance(units, Units))
    if named is None:
        return chosen
    given = units_of(one.row for one in chosen) or units
    if given is None:
        raise ValueError(f"units should be given for {named}, as by units=funcbio.units(model, example); found None")
    require_fitting(given, model)
    device = next(iter(model.parameters())).device
    moved = given.to(device)
    return [one.with_units(moved) for one in chosen]


class Center:
    """Finds what deviations of a population are measured from: its running mean, with the batch of now.

    Args:
        places: Where the populations' weights are, by name.
        decay: The decay of the running mean.
    """

    def __init__(self, places: Mapping[str, Place], decay: float) -> None:
        self.places, self.decay = places, decay

    def __call__(self, name: str, mean: Tensor) -> Tensor:
        """Returns the center for every unit."""
        return centered(BioState((), **kept_state([self.places[name]])), self.decay, name, mean)


class Listening:
    """Brings the signals of a model's units to what mechanisms keep, step by step.

    Args:
        model: The model.
        units: The table of its units.
        config: The configuration.
    """

    def __init__(self, model: nn.Module, units: Units, config: BioConfig) -> None:
        self.model, self.units = model, units
        self.places = {place.name: place for place in places_in(model, units)}
        deviates = any(f"{UNITS}{DEVIATION}" in place.buffers() for place in self.places.values())
        center = Center(self.places, config.continual_backprop_decay)
        self.recorder = Recorder(model, units, center, deviates=deviates)
        self.keeps_statistics = any(part.role in RUNNING for one in units.populations for part in one.parts)

    @torch.no_grad()
    def deliver(self) -> None:
        """Writes what was recorded since the last step, nan where nothing was; no unit is new yet in this one."""
        means = self.recorder.take()
        for name, place in self.places.items():
            kept = {field: place.owner._buffers.get(f"{UNITS}{field}_{place.attribute}") for field in (*RECORDED, NEW)}
            for field, buffer in kept.items():
                mean = means[field].get(name) if field in RECORDED else None
                if buffer is not None:
                    _ = buffer.fill_(EMPTY[field]) if mean is None else buffer.copy_(mean)

    @torch.no_grad()
    def reset_statistics(self) -> None:
        """Gives units that the last mechanism replaced the running statistics of new ones."""
        if not self.keeps_statistics:
            return
        tensors = dict(self.model.named_buffers())
        state = BioState((), **kept_state([*self.places.values()]))
        for name, value in statistics_of_new(self.units, state, tensors).items():
            if value is not tensors[name]:
                tensors[name].copy_(value)

    def warn_of_nothing(self, trained: Sequence[str]) -> None:
        """Warns if no unit can be replaced whose weights are all among those that are trained."""
        for population in self.units.populations:
            if population.weights() <= {*trained} and bool(population.replaceable.any()):
                return
        warnings.warn(
            "mechanisms on units have no effect: the model should have a unit that feeds trained weights only, and "
            "feeds them alone; found none",
            IdleWarning,
            stacklevel=outside(),
        )

    def remove(self) -> None:
        """Takes the hooks off the model."""
        self.recorder.remove()
