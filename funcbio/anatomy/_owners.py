"""Decoding what a probe saw: the unit behind every channel, and whether the channel carries it alone."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from funcbio.anatomy._carriers import starts_of, within
from funcbio.anatomy._cut import Site
from funcbio.anatomy._derivatives import derivatives
from funcbio.anatomy._moves import Moves, Reach
from funcbio.anatomy._probe import Probe, by_channel
from funcbio.anatomy._units import NONE, SEVERAL

NEAR = 1e-6
"""How near to a unit's number a quotient of derivatives has to be, as a part of it."""


def reaches(probe: Probe, sizes: dict[str, int], carried: Sequence[Any]) -> dict[str, Reach]:
    """Finds out where the units of every population arrive.

    Units that channels carry alone are looked at apart from the others, as values are from queries and keys. Those of
    all populations are looked at together first, which is enough where no two of them meet.
    """
    starts, _ = starts_of(sizes)
    own = {name: [within(one, starts[name], size) for one in carried] for name, size in sizes.items()}
    inside = {name: _named(own[name], size) for name, size in sizes.items()}
    together, output = decode(probe, inside, starts)
    if output or _is_mixed(together):
        together = None
    found = {}
    for name, size in sizes.items():

        def part(chosen: Tensor, name: str = name, size: int = size) -> tuple[list[Any], bool]:
            owners, moves = decode(probe, {name: chosen}, starts)
            return [within(one, starts[name], size) for one in owners], moves

        alone = None if together is None else [within(one, starts[name], size) for one in together]
        found[name] = _reach(part, inside[name], own[name], alone)
    moves = Moves(probe, sizes, carried, found.values())
    return {name: moves.add(reach, name, starts[name], sizes[name]) for name, reach in found.items()}


def _named(own: Sequence[Any], size: int) -> Tensor:
    """Returns the units of a population that some channel carries alone."""
    inside = torch.zeros(size, dtype=torch.bool)
    for one in own:
        if one is not None:
            inside[one[one >= 0]] = True
    return inside


def _reach(part: Callable[[Tensor], tuple[list[Any], bool]], inside: Tensor, own: Sequence[Any], alone: Any) -> Reach:
    """Finds out where the units of a population arrive, from what is known of those that channels carry alone."""
    if not bool(inside.any()) or (bool(inside.all()) and alone is None):
        owner, output = part(torch.ones_like(inside))
        return Reach(owner, _none_shared(owner), torch.full_like(inside, _is_mixed(owner)), output)
    first, output = (alone, False) if alone is not None else part(inside)
    if bool(inside.all()):
        return Reach(first, _none_shared(first), torch.zeros_like(inside), output)
    second, too = part(~inside)
    owner, shared = zip(*(_joined(*three) for three in zip(first, second, own, strict=True)), strict=True)
    loose = (inside & _is_mixed(first)) | (~inside & _is_mixed(second))
    for part_of in (first, second):
        loose = loose | _lost(part_of, owner, len(inside))
    return Reach([*owner], [*shared], loose, output or too)


def _lost(part_of: Sequence[Any], owner: Sequence[Any], size: int) -> Tensor:
    """Returns the units that arrive at a channel which is not theirs, because others of their layer arrive too."""
    lost = torch.zeros(size, dtype=torch.bool)
    for one, whole in zip(part_of, owner, strict=True):
        if one is not None:
            lost[one[(one >= 0) & (one != whole)]] = True
    return lost


def _none_shared(owners: Sequence[Any]) -> list[Any]:
    return [None if one is None else torch.zeros_like(one, dtype=torch.bool) for one in owners]


def _is_mixed(owners: Sequence[Any]) -> bool:
    """Returns True if a channel depends on several units."""
    return any(one is not None and bool((one == SEVERAL).any()) for one in owners)


def _joined(first: Any, second: Any, own: Any) -> tuple[Any, Any]:
    """Returns the owners among all units, from those among two parts of them, and which channels both parts own."""
    if first is None:
        return None, None
    carries = (second == SEVERAL) & (first >= 0) & (own == first)
    owner = torch.where((second == NONE) | carries, first, torch.where(first == NONE, second, SEVERAL))
    return owner, (first >= 0) & (second >= 0)


def decode(probe: Probe, chosen: Mapping[str, Tensor], starts: Mapping[str, int]) -> tuple[list[Any], bool]:
    """Returns which of the chosen units each channel of every site is, by its number; and if the output moves."""
    owners: list[Any] = []
    output = False
    for sign in probe.signs:  # No gate is shut in both.
        pairs, reached = derivatives(probe, chosen, starts, sign)
        output = output or reached
        sites, inputs = probe.cut.sites, probe.cut.inputs
        found = [_owner(site, x, *pair) for site, x, pair in zip(sites, inputs, pairs, strict=True)]
        owners = found if not owners else [_merged(one, new) for one, new in zip(owners, found, strict=True)]
    return owners, output


def _owner(site: Site, x: Any, equal: Any, numbered: Any) -> Any:
    """Returns the unit of each channel, from two tangents; None for a site that nothing arrives at."""
    if x is None:
        return None
    if equal is None or numbered is None:
        return torch.full((by_channel(x.detach(), site).shape[0],), NONE)
    one, many = by_channel(equal, site), by_channel(numbered, site)
    number = ((one * many).sum(-1) / one.square().sum(-1).clamp_min(1e-300)).round()
    rest = (many - number.unsqueeze(-1) * one).abs().amax(-1)
    moving = (one != 0.0).any(-1) | (many != 0.0).any(-1)
    exact = (rest <= NEAR * many.abs().amax(-1)) & (number >= 1.0) & one.isfinite().all(-1)
    owner = torch.where(exact, number.nan_to_num(0.0).long() - 1, SEVERAL)
    return torch.where(moving, owner, NONE).cpu()


def _merged(one: Any, other: Any) -> Any:
    """Returns what two passes say together: one that saw nothing leaves it to the other."""
    if one is None:
        return None
    agreed = torch.where((one == other) | (other == NONE), one, SEVERAL)
    return torch.where(one == NONE, other, agreed)
