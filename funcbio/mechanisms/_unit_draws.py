"""Fresh weights of units: of a whole weight, or of the few of its rows that are new."""

import torch
from torch import Tensor

from funcbio import rng
from funcbio.anatomy._units import Part
from funcbio.base import Key
from funcbio.mechanisms._fresh import fresh


def drawn(weight: Tensor, start: Tensor, sign: Tensor | None, *, key: Key, stream: str) -> Tensor:
    """Returns fresh values for a weight, with the Dale sign of the unit that each comes from."""
    unit = rng.uniform(key, weight.shape, dtype=torch.float64, stream=stream)
    return fresh(start, unit, sign)


def drawn_rows(
    weight: Tensor, start: Tensor, sign: Tensor | None, *, key: Key, stream: str, chosen: Tensor, most: int
) -> Tensor:
    """Returns a weight with fresh values in its chosen rows, up to ``most``: those that ``drawn`` has there.

    Under vmap nothing else tells that most rows stay, so that numbers would be drawn for all of them.
    """
    count, size = len(weight), weight[0].numel()
    place = torch.arange(count, device=weight.device)
    row = torch.where(chosen, place, count).sort().values[:most]  # Last come those that are no rows.
    inside = row.clamp_max(count - 1)
    positions = inside.unsqueeze(-1) * size + torch.arange(size, device=weight.device)
    unit = rng.uniform_at(key, positions.to(torch.int32), stream=stream)
    signs = None if sign is None else sign.expand(weight.shape).flatten(1)[inside]
    new = fresh(start, unit, signs).to(weight.dtype)
    rows = torch.cat((weight.flatten(1), weight.new_zeros(1, size)))
    return rows.scatter(0, row.unsqueeze(-1).expand(new.shape), new)[:-1].reshape(weight.shape)


def has_a_row_each(part: Part, weight: Tensor) -> bool:
    """Returns True if each row of a weight is a unit, in their order; False if it costs too much to tell."""
    at_front = part.synapse is not None and part.synapse.post == 0 and len(part.unit) == len(weight)
    if not at_front or torch.compiler.is_compiling() or part.unit.device.type != "cpu":
        return False
    return torch.equal(part.unit, torch.arange(len(weight)))
