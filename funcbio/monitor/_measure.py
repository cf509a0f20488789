"""The measurements of one layer: amounts by name, of the tensors that it has."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor

from funcbio.anatomy._synapses import Synapse
from funcbio.base import Number
from funcbio.engine._statistics import mean, total
from funcbio.mechanisms import keep_sign
from funcbio.monitor._amounts import Mean, PerLayer, mean_of, norm_of, spread_of
from funcbio.monitor._kept import measure_kept
from funcbio.monitor._ranks import effective_rank, singular_values, stable_rank
from funcbio.monitor._units import measure_units


class Limits(NamedTuple):
    """Holds the limits for crystallized, dormant and clipped, and whether ranks are computed.

    Attributes:
        crystallized_below: Rate under which a weight counts as crystallized.
        dormant_up_to: Activity, relative to the layer's mean, up to which a unit counts as dormant.
        ranks: Whether singular values are computed.
        clipped_at: Multiple of its bound from which a weight counts as clipped.
    """

    crystallized_below: Number
    dormant_up_to: Number
    ranks: bool
    clipped_at: Number


def measure(layer: Mapping[str, Tensor], synapse: Synapse | None, limits: Limits) -> dict[str, Any]:
    """Computes the amounts of one layer, in the order in which they are documented.

    Args:
        layer: Its weight, and those of grad, update, rate, sign, activity, replaced, age and what is kept for some
            mechanisms that are there.
        synapse: Description of the weight; None for the layout of Linear and Conv.
        limits: The limits for crystallized, dormant and clipped, and whether ranks are computed.
    """
    weight, amounts = layer["weight"], {}
    if "rate" in layer:
        rate = layer["rate"]
        amounts["rate_mean"], amounts["rate_std"] = mean_of(rate), spread_of(rate)
        amounts["crystallized"] = mean_of(rate < limits.crystallized_below)
    if "replaced" in layer:
        amounts["replaced"] = mean_of(layer["replaced"])
    if "age" in layer:
        amounts["age_mean"] = mean_of(layer["age"])
    amounts["excitatory"] = Mean(total(weight > 0), total(weight != 0))
    if "sign" in layer:
        amounts["excitatory_units"] = Mean(total(layer["sign"] > 0), total(layer["sign"] != 0))
        signed = keep_sign(weight, layer["sign"])
        amounts["sign_violations"] = mean_of((weight - signed).abs() > 0)
    if "activity" in layer and "signal" not in layer:
        amounts["dormant"] = mean_of(_dormant(layer["activity"], limits.dormant_up_to))
    amounts |= measure_units(layer, limits.dormant_up_to)
    if limits.ranks and weight.ndim > 1:
        singular = singular_values(weight, 0 if synapse is None else synapse.post)
        amounts["stable_rank"] = PerLayer(stable_rank(singular))
        amounts["effective_rank"] = PerLayer(effective_rank(singular))
    amounts |= measure_kept(layer, limits.clipped_at)
    for name in ("weight", "grad", "update"):
        if name in layer:
            amounts[f"{name}_norm"] = norm_of(layer[name])
    return amounts


def _dormant(activity: Tensor, up_to: Number) -> Tensor:
    return activity <= up_to * mean(activity)
