"""The measurements of what the state keeps for some mechanisms: the start, averages, masks, bounds and directions."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from funcbio.base import Number
from funcbio.engine._statistics import total
from funcbio.monitor._amounts import Mean, PerLayer, Ratio, mean_of, norm_of, spread_of

KEPT = ("start", "tortoise", "utility", "mask", "bound", "singular")
"""Fields of the state that are measured where they are."""


def measure_kept(layer: Mapping[str, Tensor], clipped_at: Number) -> dict[str, Any]:
    """Computes the amounts of one layer, in the order in which they are documented.

    Args:
        layer: Its weight, and the fields that are there.
        clipped_at: Multiple of ``bound`` from which a weight counts as clipped.
    """
    weight, amounts = layer["weight"], {}
    for field in ("start", "tortoise"):
        if field in layer:
            amounts[f"{field}_distance"] = _distance(weight, layer[field])
    if "mask" in layer:
        amounts["density"] = mean_of(layer["mask"] > 0)
    if "bound" in layer:
        most = (clipped_at * layer["bound"]).to(weight.dtype)  # Rounded as the clipped weights are.
        amounts["clipped"] = Mean(total(weight.abs() >= most), weight.numel())
    if "utility" in layer:
        amounts["utility_mean"], amounts["utility_std"] = mean_of(layer["utility"]), spread_of(layer["utility"])
    if "singular" in layer:
        amounts["spectral_norm"] = PerLayer(_spectral_norm(weight, layer["singular"]))
    return amounts


def _distance(weight: Tensor, origin: Tensor) -> Ratio:
    wide = torch.promote_types(torch.promote_types(weight.dtype, origin.dtype), torch.float32)
    return Ratio(norm_of(weight.to(wide) - origin.to(wide)).squares, norm_of(origin).squares)


def _spectral_norm(weight: Tensor, singular: Tensor) -> Tensor:
    """Returns the length of what the kept vector becomes, there and back: the largest singular value, or less."""
    wide = torch.promote_types(weight.dtype, torch.float32)
    matrix = weight.to(wide).flatten(1)
    right = matrix.T @ singular.to(wide).flatten()
    return torch.linalg.vector_norm(matrix @ (right / torch.linalg.vector_norm(right).clamp_min(1e-30)))
