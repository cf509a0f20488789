"""The units of one layer: which rows and entries of tensors belong to each, and which inputs they arrive at."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Size, Tensor

from funcbio.anatomy._synapses import Synapse
from funcbio.base import listed

NONE, SEVERAL = -1, -2
"""In place of a unit: a channel depends on no unit of a layer, or on several that cannot be told apart."""

ROLES = ("incoming", "bias", "scale", "offset", "mean", "variance")
"""What a tensor is to the units that its entries belong to; the last two are running statistics, in buffers."""


@dataclass(frozen=True, eq=False)
class Part:
    """Describes the entries of one tensor that belong to the units of a population.

    Attributes:
        name: Name of the parameter or buffer.
        role: One of ``ROLES``.
        unit: The unit of every row of an incoming weight, or of every entry of a vector; -1 for none. int64.
        synapse: Layout of an incoming weight; None for a vector.
    """

    name: str
    role: str
    unit: Tensor
    synapse: Synapse | None = None

    def spread(self, values: Tensor, shape: Size, none: float | bool = False) -> Tensor:
        """Lays one value for each unit out along the tensor, with which it broadcasts; ``none`` where there is none."""
        laid = gather(values, self.unit, none)
        return laid.reshape(shape) if self.synapse is None else self.synapse.along_post(laid, shape)


@dataclass(frozen=True, eq=False)
class Edge:
    """Describes how the units of a population arrive at the inputs of one weight.

    Attributes:
        weight: Name of the weight.
        owner: For every input channel of the weight the unit that it is; -1 if it depends on none of the population,
            -2 if on several. int64.
        exclusive: Whether the channel carries that unit and nothing else: if the unit is silent, so is the channel.
        synapse: Layout of the weight.
        bias: Name of the bias beside the weight, if there is one.
        readable: Whether the channels are seen at the input of the layer that owns the weight.
        closed: Whether nothing but units arrives at the channel, also where several meet; None as ``exclusive``.
    """

    weight: str
    owner: Tensor
    exclusive: Tensor
    synapse: Synapse
    bias: str | None = None
    readable: bool = True
    closed: Tensor | None = None

    @property
    def sealed(self) -> Tensor:
        """Returns which channels nothing but units arrives at."""
        return self.exclusive if self.closed is None else self.closed

    def spread(self, values: Tensor, shape: Size, none: float | bool = False) -> Tensor:
        """Lays one value for each unit out along the channels that carry it alone; ``none`` along all others."""
        unit = torch.where(self.exclusive, self.owner, NONE)
        return self.synapse.along_pre(gather(values, unit, none), shape)


@dataclass(frozen=True, eq=False)
class Population:
    """Describes the units of one layer: what belongs to them, and where they go.

    Attributes:
        name: Name of the weight whose rows they are; of a recurrent layer, of its recurrent weight.
        size: How many there are.
        parts: Their incoming weights, biases, and entries of norms.
        edges: The weights that they reach.
        replaceable: Which of them may be replaced, bool: every channel that they reach carries them alone, there is at
            least one, and they reach the output of the model only through weights.
    """

    name: str
    size: int
    parts: tuple[Part, ...]
    edges: tuple[Edge, ...]
    replaceable: Tensor

    def __repr__(self) -> str:
        """Returns the weight, its number of units, and where they go; ``print`` of the table shows which."""
        reached = listed(edge.weight for edge in self.edges) or "no weight"
        good = int(self.replaceable.sum())
        return f"Population({self.name}: {self.size} units -> {reached}; can be replaced: {good} of {self.size})"

    def weights(self) -> set[str]:
        """Returns the names of its incoming weights, and of those that it reaches."""
        return {part.name for part in self.parts if part.synapse is not None} | {edge.weight for edge in self.edges}

    def under(self, path: str) -> "Population":
        """Returns the population with every name behind that of a module."""
        parts = tuple(
            replace(part, name=f"{path}.{part.name}", synapse=_under(path, part.synapse)) for part in self.parts
        )
        edges = tuple(
            replace(
                edge, weight=f"{path}.{edge.weight}", synapse=_under(path, edge.synapse), bias=_behind(path, edge.bias)
            )
            for edge in self.edges
        )
        return replace(self, name=f"{path}.{self.name}", parts=parts, edges=edges)

    def mapped(self, change: Callable[[Tensor], Tensor]) -> "Population":
        """Returns the population with other tables."""
        parts = tuple(replace(part, unit=change(part.unit)) for part in self.parts)
        tables = [{"owner": e.owner, "exclusive": e.exclusive, "closed": e.sealed} for e in self.edges]
        moved = [{name: change(table) for name, table in several.items()} for several in tables]
        edges = tuple(replace(edge, **several) for edge, several in zip(self.edges, moved, strict=True))
        return replace(self, parts=parts, edges=edges, replaceable=change(self.replaceable))


def _behind(path: str, name: str | None) -> str | None:
    return None if name is None else f"{path}.{name}"


def _under(path: str, synapse: Any) -> Any:
    """Returns the layout of a weight behind the name of a module."""
    if synapse is None:
        return None
    return replace(synapse, weight=f"{path}.{synapse.weight}", bias=_behind(path, synapse.bias))


def gather(values: Tensor, unit: Tensor, none: float | bool = False) -> Tensor:
    """Returns the value of each entry's unit; ``none`` where it has none."""
    if not values.numel():
        return values.new_full(unit.shape, none)
    return torch.where(unit >= 0, values[unit.clamp_min(0)], none)
