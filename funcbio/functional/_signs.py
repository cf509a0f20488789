"""Dale signs by unit: one for all weights that leave a unit, whatever matrices they are in."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from funcbio import rng
from funcbio.anatomy._carriers import starts_of
from funcbio.anatomy._units import NONE, SEVERAL, Edge, Units
from funcbio.base import Key
from funcbio.bio_config import BioConfig

BY_UNIT = "unit"
"""The variant that draws signs by unit; the default one does too where the units are known."""


class Classes(NamedTuple):
    """Holds units that have to share a sign, because they meet in a channel.

    Attributes:
        of_unit: The class of every unit, numbered over all populations.
        of_column: For every weight the class of each input channel; -1 for one that has no single sign.
        group: The group of every class: the classes that units of the same populations form.
        names: A name for every group.
    """

    of_unit: Tensor
    of_column: dict[str, Tensor]
    group: Tensor
    names: list[str]


def by_unit(config: BioConfig, units: Units | None) -> bool:
    """Returns True if signs are drawn by unit.

    Raises:
        ValueError: If the configuration wants them by unit, and there is no table.
    """
    variant = config.dales_variant
    if variant == BY_UNIT and units is None:
        raise ValueError(
            "units should be given for dales_variant='unit', as by units=funcbio.units(model, example); found None"
        )
    return config.apply_dales_principle and units is not None and variant in ("default", BY_UNIT)


def signs_of(key: Key, units: Units | None, config: BioConfig) -> dict[str, Tensor] | None:
    """Draws a sign for every unit, and returns those of the input channels of every weight; None if not by unit.

    Units that meet in a channel, as in a residual sum, share a sign. In each group of units exactly the fraction that
    the configuration says is excitatory, rounded; which ones follows from the key. A channel has no sign, 0, where
    something else arrives too, such as an input of the model, or several units that cannot be told apart.
    """
    if units is None or not by_unit(config, units):
        return None
    classes = classes_of(units)
    sign = torch.zeros(len(classes.group) + 1, device=key.device)  # The last one stands for no class.
    for number, name in enumerate(classes.names):
        members = (classes.group == number).nonzero().flatten().to(key.device)
        order = rng.permutation(key, len(members), stream=f"sign/{name}").argsort()
        excitatory = round(config.dales_excitatory_fraction * len(members))
        sign = sign.index_put((members,), torch.where(order < excitatory, 1.0, -1.0))
    return {weight: sign[column.to(key.device)] for weight, column in classes.of_column.items()}


def left_free(units: Units, signs: Mapping[str, Tensor]) -> list[str]:
    """Returns the weights that units feed through channels without a sign; not those of the model's inputs alone."""
    found = {
        edge.weight: None
        for population in units.populations
        for edge in population.edges
        if bool(((edge.owner.cpu() != NONE) & (signs[edge.weight].cpu() == 0.0)).any())
    }
    return [*found]


def classes_of(units: Units) -> Classes:
    """Finds the units that have to share a sign."""
    starts, total = starts_of({population.name: population.size for population in units.populations})
    edges: dict[str, list[tuple[int, Edge]]] = {}
    for population in units.populations:
        for edge in population.edges:
            edges.setdefault(edge.weight, []).append((starts[population.name], edge))
    columns = {weight: _columns(arriving) for weight, arriving in edges.items()}
    label = _joined(torch.arange(total), columns)
    used, of_unit = torch.unique(label, return_inverse=True)
    of_column = {}
    for weight, (owners, has_sign) in columns.items():
        first = owners.amax(0)
        of_column[weight] = torch.where(has_sign, of_unit[first.clamp_min(0)], -1) if total else first
    sizes = torch.tensor([population.size for population in units.populations])
    home = torch.repeat_interleave(torch.arange(len(sizes)), sizes)
    members = torch.zeros(len(used), len(sizes), dtype=torch.bool)
    members[of_unit, home] = True
    kinds, group = torch.unique(members, dim=0, return_inverse=True)
    names = [*units]
    return Classes(of_unit, of_column, group, ["+".join(names[int(i)] for i in kind.nonzero()) for kind in kinds])


def _columns(arriving: list[tuple[int, Edge]]) -> tuple[Tensor, Tensor]:
    """Returns the units of each channel of a weight, a row for each population, and which channels have a sign."""
    owners = torch.stack([torch.where(edge.owner >= 0, edge.owner + start, NONE).cpu() for start, edge in arriving])
    mixed = torch.stack([(edge.owner == SEVERAL).cpu() for _, edge in arriving]).any(0)
    closed = torch.stack([edge.sealed.cpu() for _, edge in arriving]).all(0)
    return owners, closed & ~mixed & (owners >= 0).any(0)


def _joined(label: Tensor, columns: Mapping[str, tuple[Tensor, Tensor]]) -> Tensor:
    """Gives units that meet in a channel the same label, the smallest of them."""
    pairs: list[Any] = []
    for owners, has_sign in columns.values():
        first = owners.amax(0)
        for row in owners:
            meet = has_sign & (row >= 0) & (row != first)
            pairs.append(torch.stack([row[meet], first[meet]]))
    one, other = torch.cat(pairs, 1) if pairs else torch.zeros(2, 0, dtype=torch.int64)
    while bool((label[one] != label[other]).any()):
        least = torch.minimum(label[one], label[other])
        label = label.scatter_reduce(0, one, least, "amin").scatter_reduce(0, other, least, "amin")
        label = torch.minimum(label, label[label])
    return label
