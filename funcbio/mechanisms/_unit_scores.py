"""Scores of units: mean magnitudes of what comes in and goes out, and values relative to those of a layer."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor
from torch.nn.functional import pad

from funcbio.anatomy._units import Population
from funcbio.engine._statistics import CHUNK
from funcbio.tensors._arithmetic import widened


def relative(values: Tensor, least: float = 1e-9) -> Tensor:
    """Returns one value for each unit divided by the mean over the layer, to which ``least`` is added.

    Values that are not finite, of units that are broken or not seen, stay so, and count for no other unit.
    """
    seen = values.isfinite()
    total = row_sums(torch.where(seen, values, 0.0).unsqueeze(0)).squeeze(0)
    return values / (total / seen.sum().clamp_min(1) + least)


def incoming_magnitude(tensors: Mapping[str, Tensor], population: Population) -> Tensor:
    """Returns for every unit the mean magnitude of its incoming weights, or of what else lies in their place."""
    parts = [(part, part.synapse) for part in population.parts if part.synapse is not None]
    of_units = [(channels(tensors[part.name], layout.post, layout.groups), part.unit) for part, layout in parts]
    return _mean_magnitude(of_units, population.size)


def outgoing_magnitude(tensors: Mapping[str, Tensor], population: Population) -> Tensor:
    """Returns for every unit the mean magnitude of its outgoing weights, over all that it reaches."""
    edges = [(edge, edge.synapse) for edge in population.edges]
    of_units = [(channels(tensors[edge.weight], layout.pre, layout.groups), edge.owner) for edge, layout in edges]
    return _mean_magnitude(of_units, population.size)


def gradient_score(grads: Mapping[str, Tensor], population: Population) -> Tensor:
    """Returns for every unit the mean magnitude of its incoming weights' gradients, by the mean over its layer.

    Gradients of any scale tell units apart: what is added to the mean is next to nothing.
    """
    return relative(incoming_magnitude(grads, population), 1e-30)


def channels(weight: Tensor, axis: int, groups: int = 1) -> Tensor:
    """Returns a weight as a matrix with a row for each unit along an axis; see ``Synapse`` for grouped convolutions."""
    if axis != 1 or groups == 1:
        return weight.movedim(axis, 0).flatten(1)
    rows = weight.shape[0]  # Axis 1 counts within the group that the row of axis 0 belongs to.
    return weight.flatten(2).unflatten(0, (groups, rows // groups)).transpose(1, 2).flatten(2).flatten(0, 1)


def row_sums(values: Tensor) -> Tensor:
    """Sums the rows of a matrix, in an order that neither the number of threads nor vmap changes."""
    if values.shape[-1] < CHUNK:
        return values.contiguous().sum(-1)
    most = CHUNK - 1
    return row_sums(row_sums(pad(values, (0, -values.shape[-1] % most)).unflatten(-1, (-1, most))))


def _mean_magnitude(of_units: Iterable[tuple[Tensor, Tensor]], size: int) -> Tensor:
    """Returns the mean magnitude for every unit, from matrices and the unit of each row; 0 of a unit without any.

    Sums of rows are added in float64, where their order, which a GPU does not keep, leaves no trace.
    """
    total = number = None
    for matrix, unit in of_units:
        sums = row_sums(widened(matrix).abs())
        sums = sums if sums.device.type == "mps" else sums.double()
        place = torch.where(unit >= 0, unit, size).to(sums.device)
        none = torch.zeros(size + 1, dtype=sums.dtype, device=sums.device)
        total = (none if total is None else total).index_add(0, place, sums)
        each = torch.full_like(place, matrix.shape[-1], dtype=sums.dtype)
        number = (none if number is None else number).index_add(0, place, each)
    if total is None or number is None:
        return torch.zeros(size)
    return (total[:-1] / number[:-1].clamp_min(1.0)).float()
