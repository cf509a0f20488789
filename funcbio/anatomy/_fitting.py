"""Checks that a model can be asked for its units, and that a table of units is one of a model."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from funcbio._checks import require, require_module
from funcbio.anatomy._choice import is_scripted, require_initialized
from funcbio.anatomy._units import Part, Units


def require_fitting(units: Units, model: nn.Module) -> None:
    """Raises ValueError if a table of units is not one of this model."""
    tensors = {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers())}
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    for population in units.populations:
        for part in population.parts:
            found = f"{part.name} of {part.unit.numel()} units"
            fits = part.name in shapes and _entries(part, shapes[part.name]) == part.unit.numel()
            require("units", found, "a table of this model, made by funcbio.units", fits)
        for edge in population.edges:
            columns = edge.synapse.pre_units(shapes[edge.weight]) if edge.weight in shapes else -1
            found = f"{edge.weight} of {edge.owner.numel()} inputs"
            require("units", found, "a table of this model, made by funcbio.units", columns == edge.owner.numel())


def _entries(part: Part, shape: torch.Size) -> int:
    return shape.numel() if part.synapse is None else part.synapse.post_units(shape)


def require_askable(model: nn.Module, example: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Raises TypeError or ValueError for what is no model, or one that cannot be asked."""
    require_module(model)
    if not example and not kwargs:
        raise ValueError("example should hold the arguments of the model, a few examples; found none")
    for name, parameter in model.named_parameters():
        require_initialized(name, parameter)
    if any(map(is_scripted, model.modules())):
        raise ValueError(f"model should be written in Python; found a program of torch.jit, {type(model).__name__}")
