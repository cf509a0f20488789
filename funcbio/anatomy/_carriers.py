"""The units that channels carry alone: found by silencing half of all units at a time."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from funcbio.anatomy._cut import Site
from funcbio.anatomy._population import NONE, SEVERAL
from funcbio.anatomy._probe import SEED, Probe, by_channel, units_along

SAME = 1e-9
"""How near to each other two numbers are that count as the same, beside 1 and their own size."""


def sources_of(sites: Sequence[Site]) -> dict[str, int]:
    """Returns the size of every population."""
    return {site.source: site.size for site in sites if site.synapse is not None}


def carriers(probe: Probe, sizes: Mapping[str, int], still: Sequence[Any]) -> list[Any]:
    """Returns, for every site, the unit that each channel carries alone: its number among all units, or -1.

    In the passes of a binary code half of the units are silent. A channel that carries one unit alone stands still in
    exactly those in which that unit is silent, whatever the others do. ``still`` is what arrives while all are.
    """
    starts, total = starts_of(sizes)
    bits = max(1, (total - 1).bit_length())
    number: list[Any] = [0] * len(still)
    valid: list[Any] = [True] * len(still)
    for bit in range(bits):
        found = []
        for value in (0, 1):
            silent = {name: ((starts[name] + torch.arange(size)) >> bit) % 2 == value for name, size in sizes.items()}
            found.append(_constant(probe, still, silent))
        for at, pair in enumerate(zip(*found, strict=True)):
            if pair[0] is not None:
                number[at] = number[at] + (pair[1].long() << bit)
                valid[at] = valid[at] & (pair[0] ^ pair[1])
    return [
        None if still[at] is None else torch.where(valid[at] & (number[at] < total), number[at], NONE)
        for at in range(len(still))
    ]


def closed(probe: Probe, sizes: Mapping[str, int], still: Sequence[Any]) -> list[Any]:
    """Returns, for every site, the channels that stand still while all units are silent: nothing else arrives."""
    silent = {name: torch.ones(size, dtype=torch.bool) for name, size in sizes.items()}
    return _constant(probe, still, silent)


def starts_of(sizes: Mapping[str, int]) -> tuple[dict[str, int], int]:
    """Returns the number of the first unit of every population, and the number of all units."""
    starts, total = {}, 0
    for name, size in sizes.items():
        starts[name], total = total, total + size
    return starts, total


def at_rest(probe: Probe) -> list[Any]:
    """Returns what arrives at every site while all units are silent."""
    probe.change = lambda _, tag, __: tag * 0.0
    sites, arriving, _ = probe.run(0)
    return [None if x is None else by_channel(x, site) for site, x in zip(sites, arriving, strict=True)]


def _constant(probe: Probe, still: Sequence[Any], silent: dict[str, Tensor]) -> list[Any]:
    """Returns which channels stand still while some units are silent, and all else is new: of either sign."""

    def change(site: Site, tag: Tensor, dim: int) -> Tensor:
        return tag * (1.0 - units_along(silent[site.source], site, tag, dim))

    probe.change = change
    constant: list[Any] = [None] * len(still)
    for sign in probe.signs:
        sites, arriving, _ = probe.run(SEED, sign=sign, shaken=True)
        for at, (site, x, before) in enumerate(zip(sites, arriving, still, strict=True)):
            if x is not None:
                stands = same(by_channel(x, site), before)
                constant[at] = stands if constant[at] is None else constant[at] & stands
    return constant


def same(one: Tensor, other: Tensor) -> Tensor:
    """Returns which rows of two matrices hold the same numbers."""
    return ((one - other).abs() <= SAME * (1.0 + other.abs())).all(-1).cpu()


def within(number: Any, start: int, size: int) -> Any:
    """Returns units of one population from their numbers among all units; those of others are none."""
    if number is None:
        return None
    return torch.where(
        number == SEVERAL, SEVERAL, torch.where((number >= start) & (number < start + size), number - start, NONE)
    )
