"""Units: which rows, columns and entries of the tensors of a model belong to each unit of its layers."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from funcbio._checks import perhaps
from funcbio.anatomy._population import NONE as NONE
from funcbio.anatomy._population import ROLES as ROLES
from funcbio.anatomy._population import SEVERAL as SEVERAL
from funcbio.anatomy._population import Edge, Part, Population
from funcbio.anatomy._population import gather as gather
from funcbio.anatomy._synapses import Synapse
from funcbio.anatomy._units_table import table


@dataclass(frozen=True, eq=False)
class Units(Mapping[str, Population]):
    """Says which unit of a model feeds which input; made by ``funcbio.units``, see there.

    A mapping from the name of a weight to the population of its units, in the order of the layers.

    Attributes:
        populations: The populations.
        unknown: What could not be seen, a sentence each.

    Example:
        >>> net = torch.nn.Sequential(
        ...     torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1)
        ... )
        >>> print(units(net, torch.ones(4, 2)))
        0.weight (3) -> 2.weight: 0..2 | alone
                        can be replaced: 3 of 3
        2.weight (1) -> no weight
                        can be replaced: 0 of 1
    """

    populations: tuple[Population, ...] = ()
    unknown: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Population:
        """Returns the population of a weight's units; raises KeyError with the names that come close."""
        found = next((one for one in self.populations if one.name == name), None)
        if found is None:
            raise KeyError(f"units should be those of a weight{perhaps(name, [*self])}; found {name!r}")
        return found

    def __iter__(self) -> Iterator[str]:
        """Iterates over the names of the populations."""
        return (population.name for population in self.populations)

    def __len__(self) -> int:
        """Returns the number of populations."""
        return len(self.populations)

    def __contains__(self, name: object) -> bool:
        """Returns True if there is a population of that name."""
        return any(population.name == name for population in self.populations)

    def __eq__(self, other: object) -> bool:
        """Returns True if both say the same."""
        return isinstance(other, Units) and _same(self.state_dict(), other.state_dict())

    def __hash__(self) -> int:
        """Returns a number that equal tables share."""
        return hash((*self,))

    def __repr__(self) -> str:
        """Returns how many populations and units there are, in a line; ``print`` shows the table."""
        units = sum(one.size for one in self.populations)
        good = sum(int(one.replaceable.sum()) for one in self.populations)
        return f"Units({len(self)} populations; can be replaced: {good} of {units} units)"

    def __str__(self) -> str:
        """Returns the table, to be checked by eye."""
        return table(self.populations, self.unknown)

    def to(self, device: torch.device | str) -> "Units":
        """Returns the same with its tables on a device."""
        move = partial(torch.Tensor.to, device=torch.device(device))
        return replace(self, populations=tuple(one.mapped(move) for one in self.populations))

    def under(self, path: str) -> "Units":
        """Returns the table of a model that holds this one under a name, such as "net" in a ``LightningModule``."""
        return replace(self, populations=tuple(one.under(path) for one in self.populations))

    def state_dict(self) -> dict[str, Any]:
        """Returns all of it as dictionaries, lists, names and tensors, to be saved with a checkpoint."""
        return {"populations": [_plain(one) for one in self.populations], "unknown": list(self.unknown)}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> "Units":
        """Returns what ``state_dict`` described."""
        return cls(tuple(map(_population, state["populations"])), tuple(state["unknown"]))


def _plain(population: Population) -> dict[str, Any]:
    entries = {"parts": population.parts, "edges": population.edges}
    listed = {name: [_layout(vars(one)) for one in several] for name, several in entries.items()}
    return {**vars(population), **listed}


def _layout(fields: Mapping[str, Any]) -> dict[str, Any]:
    synapse = fields["synapse"]
    return {**fields, "synapse": None if synapse is None else dict(vars(synapse))}


def _population(plain: Mapping[str, Any]) -> Population:
    parts = tuple(Part(**{**one, "synapse": _synapse(one["synapse"])}) for one in plain["parts"])
    edges = tuple(Edge(**{**one, "synapse": Synapse(**one["synapse"])}) for one in plain["edges"])
    return Population(**{**plain, "parts": parts, "edges": edges})


def _synapse(fields: Mapping[str, Any] | None) -> Synapse | None:
    return None if fields is None else Synapse(**fields)


def _same(one: Any, other: Any) -> bool:
    """Returns True if two plain descriptions are equal, tensors by their values."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return torch.equal(one.cpu(), other.cpu())
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)
