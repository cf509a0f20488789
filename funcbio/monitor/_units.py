"""The measurements of units: their signals, which are new, and which of them break Dale's principle."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from funcbio.anatomy._units import Population, Units
from funcbio.base import Number
from funcbio.engine._statistics import total
from funcbio.monitor._amounts import Mean, mean_of

OF_UNITS = ("signal", "unit_new")
"""Fields of ``state.units`` that are measured."""


def fields_of_units(state: Any, name: str) -> dict[str, Tensor]:
    """Returns what a state keeps for the units of a weight, of what is measured."""
    units: Any = getattr(state, "units", ()) or {}
    found = {field: units.get(field, {}).get(name) for field in OF_UNITS}
    return {field: value for field, value in found.items() if value is not None}


def measure_units(layer: Mapping[str, Tensor], dormant_up_to: Number) -> dict[str, Any]:
    """Computes the amounts of one layer's units, in the order in which they are documented."""
    amounts: dict[str, Any] = {}
    if "signal" in layer:
        signal = layer["signal"]
        seen = ~signal.isnan()
        mean = torch.where(seen, signal, 0.0).sum() / seen.sum().clamp_min(1)
        amounts["dormant"] = Mean(total(seen & (signal <= dormant_up_to * mean)), total(seen))
        amounts["dormant_by_signal"] = mean_of(torch.ones_like(seen))
    if "unit_new" in layer:
        amounts["units_replaced"] = mean_of(layer["unit_new"])
    if "conflicts" in layer:
        amounts["sign_conflicts"] = mean_of(layer["conflicts"])
    return amounts


def conflicts(units: Units, layers: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Returns, by population, which units excite through some weights and inhibit through others.

    Weights without signs, such as those of the read-out, are left out, and units all of whose weights are.
    """
    found = {}
    for population in units.populations:
        positive, negative = (_sends(population, layers, sign) for sign in (1.0, -1.0))
        if positive is not None and negative is not None and population.name in layers:
            found[population.name] = (positive & negative)[positive | negative]
    return {name: one for name, one in found.items() if one.numel()}


def _sends(population: Population, layers: Mapping[str, Mapping[str, Tensor]], sign: float) -> Tensor | None:
    """Returns which units have an outgoing weight of a sign, through channels that no others but units share.

    Weights left free of Dale's principle, such as those behind a mixture of units, may have either sign.
    """
    sends: Tensor | None = None
    for edge in population.edges:
        layer = layers.get(edge.weight, {})
        if "sign" not in layer:
            continue
        weight, synapse = layer["weight"], edge.synapse
        signed = (weight * sign > 0.0) & (layer["sign"] != 0.0)
        unit = torch.where(edge.sealed, edge.owner, -1).to(weight.device)
        laid = synapse.along_pre(unit, weight.shape).expand(weight.shape)
        here = torch.zeros(population.size, dtype=torch.bool, device=weight.device)
        here[laid[signed & (laid >= 0)]] = True
        sends = here if sends is None else sends | here
    return sends
