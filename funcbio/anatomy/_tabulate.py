"""The table of units: what a probe found, by population."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from funcbio._checks import brief
from funcbio.anatomy._apart import apart, untouched
from funcbio.anatomy._carriers import at_rest, carriers, closed, sources_of, starts_of
from funcbio.anatomy._copies import plain_attention
from funcbio.anatomy._cut import Site
from funcbio.anatomy._fitting import require_askable
from funcbio.anatomy._moves import Reach
from funcbio.anatomy._owners import reaches
from funcbio.anatomy._probe import Probe, probe_of
from funcbio.anatomy._units import NONE, SEVERAL, Edge, Part, Population, Units
from funcbio.base import listed

OF_THE_PROBE = ("dtype", "ouble", "derivative", "forward AD")
"""Words of torch's errors that come of the probe's numbers, not of the model."""


def units(model: nn.Module, *example: Any, **kwargs: Any) -> Units:
    """Finds out which unit of every layer feeds which input of the others, by running a copy of the model.

    Args:
        model: Any module.
        example: Its arguments: a few examples, as the model takes them.
        kwargs: Its keyword arguments.

    Returns:
        The table. It prints as one, and is made once.

    Raises:
        ValueError: If there is no example, or it does not fit; if the model is lazy and has not run yet, or if which
            weights it uses depends on numbers.

    Example:
        >>> net = torch.nn.Sequential(
        ...     torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1)
        ... )
        >>> units(net, torch.ones(4, 2))["0.weight"].edges[0].owner
        tensor([0, 1, 2])
    """
    require_askable(model, example, kwargs)
    with torch.inference_mode(False), plain_attention():
        try:
            return _probed(probe_of(model, example, kwargs))
        except (RuntimeError, NotImplementedError) as error:  # Torch's own.
            if not isinstance(error, NotImplementedError) and not any(word in str(error) for word in OF_THE_PROBE):
                raise  # The model's own.
            should = "run on the example, a copy of it in float64, by operations with forward derivatives"
            raise ValueError(f"model should {should}; found {type(error).__name__}: {error}") from error
        except TypeError as error:
            if any(isinstance(one, Tensor) for one in (*example, *kwargs.values())):
                raise  # The model's own.
            found = listed(map(brief, (*example, *kwargs.values())))
            should = "what the model takes, units(model, *arguments)"
            raise ValueError(f"example should be {should}; found {found}, and TypeError: {error}") from error


def _probed(probe: Probe) -> Units:
    """Returns the table of what a probe finds."""
    sites, still = probe.sites, at_rest(probe)
    sizes = sources_of(sites)
    carried, sealed = carriers(probe, sizes, still), closed(probe, sizes, still)
    reached = reaches(probe, sizes, carried)
    return Table(probe, sites, sizes, carried, reached, sealed).units()


class Table:
    """Makes the table of what a probe found.

    Args:
        probe: The probe.
        sites: The uses of weights and norms, in order.
        sizes: Sizes of the populations.
        carried: For every site the units that channels carry alone, numbered over all populations.
        reached: Where the units of each population arrive.
        sealed: For every site the channels that nothing but units arrives at.
    """

    def __init__(
        self,
        probe: Probe,
        sites: Sequence[Site],
        sizes: dict[str, int],
        carried: Sequence[Any],
        reached: dict[str, Reach],
        sealed: Sequence[Any],
    ) -> None:
        self.sites, self.sizes, self.reached, self.sealed = sites, sizes, reached, sealed
        self.shapes = {name: tensor.shape for name, tensor in probe.cut.names.tensors.items()}
        self.unknown = list(probe.cut.unknown)
        self.parameters = probe.cut.names.parameters.keys()
        used = {name for site in sites for name in (site.weight, site.bias, *site.entries.values())}
        self.computed = probe.cut.computed & used
        self.alone = self._alone(carried)
        self.empty = [self._empty(at) for at in range(len(sites))]

    def _alone(self, carried: Sequence[Any]) -> dict[str, list[Any]]:
        """Returns for every population and site which channels carry one of its units, and nothing else."""
        counts = []
        for at, one in enumerate(carried):
            each = [self.reached[name] for name in self.sizes]
            counts.append(None if one is None else sum((r.owner[at] >= 0).long() + r.shared[at].long() for r in each))
        starts, _ = starts_of(self.sizes)
        alone = {}
        for name, start in starts.items():
            owners = self.reached[name].owner
            alone[name] = [
                None if one is None else (owner >= 0) & (counts[at] == 1) & (one == owner + start)
                for at, (one, owner) in enumerate(zip(carried, owners, strict=True))
            ]
        return alone

    def _empty(self, at: int) -> Any:
        """Returns the channels of a site at which nothing arrives, such as those of a state of zeros."""
        owners = [one.owner[at] for one in self.reached.values()]
        return None if owners[0] is None else torch.stack([one == NONE for one in owners]).all(0) & self.sealed[at]

    def units(self) -> Units:
        """Returns the table."""
        turned = [name for name in self.sizes if name not in self.shapes]
        for name in turned:
            self.unknown.append(f"{name.split(' ')[0]}: used in two directions, the units of the second are not listed")
        for name in sorted(self.computed):
            self.unknown.append(f"{name}: the model also computes with it in another way, which is not followed")
        populations = [self._population(name) for name in self.sizes if name in self.shapes]
        return Units(tuple(untouched(apart(populations), self.computed)), tuple(self.unknown))

    def _population(self, name: str) -> Population:
        edges, parts = self._edges(name), self._parts(name)
        reached = self.reached[name]
        good, bad = self._judged(name, {(edge.weight, edge.synapse.pre): edge for edge in edges})
        replaceable = good & ~bad & ~reached.loose & (not reached.output)
        return Population(name, self.sizes[name], parts, edges, replaceable)

    def _judged(self, name: str, edges: Mapping[tuple[str, int], Edge]) -> tuple[Tensor, Tensor]:
        """Returns which units some channel carries alone, and which arrive at a channel that does not.

        A weight that is used twice has one column for what arrives at either place.
        """
        good, bad = (torch.zeros(self.sizes[name], dtype=torch.bool) for _ in range(2))
        for site, owner in zip(self.sites, self.reached[name].owner, strict=True):
            edge = None if site.synapse is None else edges.get((site.weight, site.synapse.pre))
            if edge is not None and owner is not None:
                alone = edge.exclusive & (edge.owner == owner)
                good[owner[alone]] = True
                bad[owner[(owner >= 0) & ~alone]] = True
        return good, bad

    def _edges(self, name: str) -> tuple[Edge, ...]:
        """Returns the weights that a population reaches."""
        by_weight: dict[tuple[str, int], list[int]] = {}
        for at, site in enumerate(self.sites):
            if site.synapse is not None and self.reached[name].owner[at] is not None:
                by_weight.setdefault((site.weight, site.synapse.pre), []).append(at)
        made = [self._edge(name, places) for places in by_weight.values()]
        return tuple(edge for edge in made if bool((edge.owner != NONE).any()))

    def _edge(self, name: str, places: list[int]) -> Edge:
        first = self.sites[places[0]]
        synapse = first.synapse
        assert synapse is not None
        owners = torch.stack([self.reached[name].owner[at] for at in places])
        alone = torch.stack([self.alone[name][at] | self.empty[at] for at in places]).all(0)
        some = owners.amax(0)
        agree = ((owners == some) | (owners == NONE)).all(0) & (owners != SEVERAL).all(0)
        owner = torch.where(agree, some, SEVERAL)
        readable = all(self.sites[at].readable for at in places)
        sealed = torch.stack([self.sealed[at] for at in places]).all(0)
        return Edge(first.weight, owner, alone & (owner >= 0), synapse, first.bias, readable, sealed)

    def _parts(self, name: str) -> tuple[Part, ...]:
        """Returns what belongs to the units of a population."""
        parts: dict[str, Part] = {}
        for site in self.sites:
            if site.source == name and site.synapse is not None:
                rows = site.synapse.post_units(self.shapes[site.weight])
                unit = torch.arange(rows) % site.size
                parts.setdefault(site.weight, Part(site.weight, "incoming", unit, site.synapse))
                if site.bias is not None and self._is_own(name, site.bias, rows):
                    parts.setdefault(site.bias, Part(site.bias, "bias", unit))
        for site in self.sites:
            for role, entry in site.entries.items() if site.synapse is None else ():
                unit = self._everywhere(name, entry)
                if bool((unit >= 0).any()):
                    parts.setdefault(entry, Part(entry, role, unit))
        return tuple(parts.values())

    def _is_own(self, name: str, bias: str, rows: int) -> bool:
        """Returns whether a bias is a parameter of one population, with an entry for each of its rows."""
        only = {site.source for site in self.sites if site.bias == bias} == {name}
        return only and bias in self.parameters and self.shapes[bias].numel() == rows

    def _everywhere(self, name: str, entry: str) -> Tensor:
        """Returns the unit of every entry of a norm, -1 where it is not one and the same at all uses."""
        places = [at for at, site in enumerate(self.sites) if entry in site.entries.values()]
        found = [torch.where(self.alone[name][at], self.reached[name].owner[at], NONE) for at in places]
        return torch.where(torch.stack([one == found[0] for one in found]).all(0), found[0], NONE)
