"""Densities: which share of the connections of every layer exists at the beginning, and which ones."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from funcbio import rng
from funcbio.base import Key
from funcbio.mechanisms._order import lowest

LAWS = ("uniform", "erdos_renyi", "erdos_renyi_kernel")
"""How the density of a model is spread over its layers."""


def densities(
    shapes: Mapping[str, tuple[int, ...]], density: float, law: str, *, begins: bool | None = None
) -> dict[str, float]:
    """Returns the density of every layer, from that of the whole model.

    Args:
        shapes: The shape of every weight, in the order of the layers.
        density: The density of all of them.
        law: How it is spread.
        begins: Whether the first of them is the first of a deeper model; None if they are the model.
    """
    if law == "uniform":  # The first layer is the input's only door, and small: it stays dense.
        dense = len(shapes) > 1 if begins is None else begins
        return {name: 1.0 if index == 0 and dense else density for index, name in enumerate(shapes)}
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    kept = {name: _relative(shape, law) for name, shape in shapes.items()}
    full: set[str] = set()
    while True:  # A layer that would be more than dense is dense, and the others share what it lacks.
        rest = [name for name in shapes if name not in full]
        budget = density * sum(sizes.values()) - sum(sizes[name] for name in full)
        scale = budget / max(sum(kept[name] * sizes[name] for name in rest), 1e-30)
        over = {name for name in rest if kept[name] * scale > 1.0}
        if not over:
            return {name: 1.0 if name in full else max(kept[name] * scale, 0.0) for name in shapes}
        full |= over


def _relative(shape: tuple[int, ...], law: str) -> float:
    sizes = shape if law == "erdos_renyi_kernel" else shape[:2]
    return sum(sizes) / max(math.prod(sizes), 1)


def initial_mask(
    key: Key,
    name: str,
    shapes: Mapping[str, tuple[int, ...]],
    *,
    density: float,
    law: str,
    like: Tensor,
    begins: bool | None = None,
) -> Tensor:
    """Draws which connections of a layer exist at the beginning: exactly as many as its density asks for.

    Weights that are zero exist last, so that a layer that is sparse already stays as it is.
    """
    count = round(densities(shapes, density, law, begins=begins)[name] * like.numel())
    unit = rng.uniform(key, tuple(like.shape), stream=f"mask/{name}", dtype=torch.float64)
    return lowest(torch.where(like == 0.0, unit + 1.0, unit), torch.tensor(count, device=like.device))
