"""What is measured of one layer: amounts by name, of whatever is there."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor

from funcbio.anatomy._synapses import Synapse
from funcbio.base import Number
from funcbio.engine._statistics import mean, total
from funcbio.mechanisms import keep_sign
from funcbio.monitor._amounts import Mean, PerLayer, mean_of, norm_of, spread_of
from funcbio.monitor._ranks import effective_rank, singular_values, stable_rank


class Limits(NamedTuple):
    """What counts as crystallized and as dormant, and whether ranks are wanted.

    Attributes:
        crystallized_below: Rate under which a weight counts as crystallized.
        dormant_up_to: Activity, relative to the layer's mean, up to which a unit counts as dormant.
        ranks: Whether singular values are computed.
    """

    crystallized_below: Number
    dormant_up_to: Number
    ranks: bool


def measure(layer: Mapping[str, Tensor], synapse: Synapse | None, limits: Limits) -> dict[str, Any]:
    """Amounts of one layer, in the order in which they are documented.

    Args:
        layer: Its weight, and those of grad, update, rate, sign, activity, replaced and age that are there.
        synapse: Description of the weight; None for the layout of Linear and Conv.
        limits: What counts as what.
    """
    weight, found = layer["weight"], {}
    if "rate" in layer:
        rate = layer["rate"]
        found["rate_mean"], found["rate_std"] = mean_of(rate), spread_of(rate)
        found["crystallized"] = mean_of(rate < limits.crystallized_below)
    if "replaced" in layer:
        found["replaced"] = mean_of(layer["replaced"])
    if "age" in layer:
        found["age_mean"] = mean_of(layer["age"])
    found["excitatory"] = Mean(total(weight > 0), total(weight != 0))
    if "sign" in layer:
        found["excitatory_units"] = mean_of(layer["sign"] > 0)
        kept = keep_sign(weight, layer["sign"])
        found["sign_violations"] = mean_of((weight - kept).abs() > 0)
    if "activity" in layer:
        found["dormant"] = mean_of(_dormant(layer["activity"], limits.dormant_up_to))
    if limits.ranks and weight.ndim > 1:
        singular = singular_values(weight, 0 if synapse is None else synapse.post)
        found["stable_rank"] = PerLayer(stable_rank(singular))
        found["effective_rank"] = PerLayer(effective_rank(singular))
    for name in ("weight", "grad", "update"):
        if name in layer:
            found[f"{name}_norm"] = norm_of(layer[name])
    return found


def _dormant(activity: Tensor, up_to: Number) -> Tensor:
    return activity <= up_to * mean(activity)
