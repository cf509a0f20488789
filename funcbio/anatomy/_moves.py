"""Passes with other tags: they show what changes with a layer though it has no derivative, as behind a step."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from funcbio.anatomy._carriers import same, within
from funcbio.anatomy._cut import Site
from funcbio.anatomy._population import NONE, SEVERAL
from funcbio.anatomy._probe import SEED, Probe, by_channel

OTHER = -0.7
"""By how much the tags of a population are multiplied to be others: of the other sign, and of another size."""


@dataclass
class Reach:
    """Holds where the units of one population arrive.

    Attributes:
        owner: For every site the unit of each channel; None for a site that nothing arrives at.
        shared: For every site the channels that two units of the population own.
        loose: Units that may reach channels together with others.
        output: Whether they reach the output of the model.
    """

    owner: list[Any]
    shared: list[Any]
    loose: Tensor
    output: bool


class Moves:
    """Compares passes in which the tags of some populations are others.

    Args:
        probe: The probe.
        sizes: Sizes of the populations.
        carried: For every site the units that channels carry alone, numbered over all populations.
        known: Where derivatives say that units arrive; passes of single populations are made if that does not explain
            every channel that changes.
    """

    def __init__(self, probe: Probe, sizes: Collection[str], carried: Sequence[Any], known: Collection[Reach]) -> None:
        self.probe, self.carried = probe, carried
        self.before = [self._numbers((), sign) for sign in probe.signs]
        self.needed = self._hides([*sizes], [*known])

    def _hides(self, names: Sequence[str], known: Sequence[Reach]) -> bool:
        """Returns True if a channel changes with populations that do not arrive there by their derivatives.

        Half of the populations change in each pass, by the bits of their numbers: so a hidden one is told apart from
        any other that arrives at the same channel.
        """
        for bit in range(max(1, (len(names) - 1).bit_length())):
            for value in (0, 1):
                chosen = [at for at in range(len(names)) if (at >> bit) % 2 == value]
                moved, output = self.by([names[at] for at in chosen]) if chosen else ([], False)
                if output and not any(known[at].output for at in chosen):
                    return True
                for site, moves in enumerate(moved):
                    seen = [known[at].owner[site] != NONE for at in chosen] if moves is not None else []
                    if seen and moves is not None and bool((moves & ~torch.stack(seen).any(0)).any()):
                        return True
        return False

    def _numbers(self, names: Collection[str], sign: float) -> tuple[list[Any], list[Tensor]]:
        def change(site: Site, tag: Tensor, dim: int) -> Tensor:
            del dim
            return tag * OTHER if site.source in names else tag

        self.probe.change = change
        sites, arriving, outputs = self.probe.run(SEED, sign=sign)
        found = [None if x is None else by_channel(x, site).clone() for site, x in zip(sites, arriving, strict=True)]
        return found, [one.flatten()[None].clone() for one in outputs]

    def by(self, names: Collection[str]) -> tuple[list[Any], bool]:
        """Returns the channels of every site that change with some populations, and whether the output does."""
        moved: list[Any] = [None if one is None else torch.zeros_like(one, dtype=torch.bool) for one in self.carried]
        output = False
        for sign, (before, outputs) in zip(self.probe.signs, self.before, strict=True):
            found, after = self._numbers(names, sign)
            for at, (one, other) in enumerate(zip(found, before, strict=True)):
                if one is not None:
                    moved[at] = moved[at] | ~same(one, other)
            output = output or not all(bool(same(*pair).all()) for pair in zip(after, outputs, strict=True))
        return moved, output

    def add(self, reach: Reach, name: str, start: int, size: int) -> Reach:
        """Returns where units arrive, with the channels that change though no derivative shows it.

        If a channel carries one unit alone it is that one's; of all others it is not known which units they carry.
        """
        moved, output = self.by([name]) if self.needed else (self._alone(start, size), False)
        owners, loose = [], reach.loose
        for owner, changed, carried in zip(reach.owner, moved, self.carried, strict=True):
            if owner is not None:
                unit, missing = within(carried, start, size), changed & (owner == NONE)
                owner = torch.where(missing, torch.where(unit >= 0, unit, SEVERAL), owner)
                loose = loose | (missing & (unit < 0)).any()
            owners.append(owner)
        return replace(reach, owner=owners, loose=loose, output=reach.output or output)

    def _alone(self, start: int, size: int) -> list[Any]:
        return [None if one is None else within(one, start, size) >= 0 for one in self.carried]
