"""Buffers beside the parameters of a model, in the module that owns each: what mechanisms keep for them."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from funcbio.base import KEPT
from funcbio.mechanisms._unit_fields import UNIT_FIELDS
from funcbio.tensors._sharding import is_distributed, shard_like

PREFIX = "bio_kept_"
UNITS = f"{PREFIX}units_"
"""Fields of units, by field and weight."""
CALLS = f"{PREFIX}calls_"
"""Counters of calls, by mechanism; every module that owns a parameter has them."""


class Place(NamedTuple):
    """Says where a parameter is: its name in trees, the module that owns it, its name there."""

    name: str
    owner: nn.Module
    attribute: str

    @property
    def weight(self) -> Tensor:
        """Returns the parameter."""
        return self.owner._parameters[self.attribute]  # pyright: ignore[reportReturnType]

    def buffer_name(self, field: str) -> str:
        """Returns the name of the buffer that holds a field of the state for the parameter."""
        return f"{PREFIX}{field}_{self.attribute}"

    def buffers(self) -> dict[str, Tensor]:
        """Returns what is kept, by field; counters under their own names."""
        table = dict(self.owner._buffers.items())  # Of a scripted module it is no dictionary.
        fields = {field: table.get(self.buffer_name(field)) for field in KEPT}
        calls = {name: value for name, value in table.items() if name.startswith(CALLS)}
        return {name: value for name, value in {**fields, **calls, **self.of_units(table)}.items() if value is not None}

    def of_units(self, table: Mapping[str, Any]) -> dict[str, Any]:
        """Returns what is kept for the units of the weight, under ``UNITS`` and the name of the field."""
        if not any(name.startswith(UNITS) for name in table):
            return {}
        return {f"{UNITS}{field}": table.get(f"{UNITS}{field}_{self.attribute}") for field in UNIT_FIELDS}


def places_of(parts: Iterable[Any]) -> list[Place]:
    """Returns the places of layers, and of what stands for other parameters."""
    return [Place(part.synapse.weight, part.get_parent(), part.synapse.attribute) for part in parts]


def places_in(model: nn.Module, names: Iterable[str]) -> list[Place]:
    """Returns the places of parameters of a model, by name."""
    parts = ((name, *name.rpartition(".")[::2]) for name in names)
    return [Place(name, model.get_submodule(path), attribute) for name, path, attribute in parts]


def kept_names(module: nn.Module) -> list[str]:
    """Returns the names of all buffers that mechanisms keep on a module."""
    return [name for name in module._buffers if name.startswith(PREFIX)]


def kept_state(places: Sequence[Place], needed: Collection[str] = ()) -> dict[str, Any]:
    """Returns what is kept as fields of the state: trees by parameter, counters by mechanism.

    Args:
        places: The places of the parameters.
        needed: Fields that are there even if nothing is kept for any of these parameters.
    """
    kept = {place: place.buffers() for place in places}
    fields = [field for field in KEPT if field in needed or any(field in buffers for buffers in kept.values())]
    state: dict[str, Any] = {
        field: {place.name: buffers.get(field, _none(field, place.weight)) for place, buffers in kept.items()}
        for field in fields
    }
    others = [pair for buffers in reversed(kept.values()) for pair in buffers.items() if pair[0].startswith(CALLS)]
    calls = {name.removeprefix(CALLS): count for name, count in others}
    units: dict[str, dict[str, Tensor]] = {}
    for place, buffers in kept.items():
        for name in [name for name in buffers if name.startswith(UNITS)]:
            units.setdefault(name.removeprefix(UNITS), {})[place.name] = buffers[name]
    return {**state, **({"calls": calls} if calls else {}), **({"units": units} if units else {})}


def _none(field: str, weight: Tensor) -> Tensor:
    return torch.zeros((), dtype=torch.bool if field == "mask" else torch.float32, device=weight.device)


def lay_out(places: Sequence[Place]) -> None:
    """Cuts what is kept into shards where parameters have been sharded since."""
    for place in places:
        if is_distributed(place.weight):
            for field, buffer in place.buffers().items():
                if field in KEPT and not is_distributed(buffer):
                    place.owner._buffers[place.buffer_name(field)] = shard_like(buffer, place.weight)


def _tree(state: Any, name: str) -> Any:
    """Returns the tree of a state that holds a buffer's value."""
    if name.startswith(CALLS):
        return state.calls
    return state.units[name.removeprefix(UNITS)] if name.startswith(UNITS) else getattr(state, name)


def changed_buffers(places: Sequence[Place], before: Any, after: Any) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields buffers, each with the new value that a function has returned for it."""
    for place in places:
        for name, buffer in place.buffers().items():
            old, new = (_tree(state, name) for state in (before, after))
            leaf = name.removeprefix(CALLS) if name.startswith(CALLS) else place.name
            if isinstance(new, Mapping) and new is not old and new[leaf] is not old[leaf]:
                yield buffer, new[leaf]
