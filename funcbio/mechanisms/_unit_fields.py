"""Fields of ``state.units``: for each of them a dictionary of tensors by population."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from funcbio.base import brief


class UnitField(NamedTuple):
    """Describes a field that is kept for units.

    Attributes:
        initial: Its value in the beginning.
        dtype: Its type.
        columns: Numbers for each unit; 0 for one number, without a dimension for it.
        per_unit: Whether there is a number for each unit; if not, there is one for the population, of shape (1,).
    """

    initial: float = 0.0
    dtype: torch.dtype = torch.float32
    columns: int = 0
    per_unit: bool = True

    def make(self, size: int, device: torch.device) -> Tensor:
        """Makes the field for a population of some size."""
        shape = (size,) if self.per_unit else (1,)
        shape = (*shape, self.columns) if self.columns else shape
        return torch.full(shape, self.initial, dtype=self.dtype, device=device)


STRETCHES = tuple(sorted({math.ceil(2 ** (eighth / 8)) - 1 for eighth in range(1, 129)}))
"""The longest stretch that each column of a histogram counts: one by one up to 15 calls, then within 10 %."""
NEW = "unit_new"
"""Which units the last call replaced."""
DEVIATION = "signal_deviation"
"""How far signals are from their running mean."""
RECORDED = ("signal", "signal_mean", DEVIATION)
"""Fields that a forward pass fills in; nan until one has."""
UNIT_FIELDS: dict[str, UnitField] = {
    "signal": UnitField(math.nan),
    "signal_mean": UnitField(math.nan),
    DEVIATION: UnitField(math.nan),
    "unit_mean": UnitField(),
    "unit_utility": UnitField(),
    "unit_age": UnitField(dtype=torch.int32),
    "unit_due": UnitField(per_unit=False),
    "unit_silence": UnitField(dtype=torch.int32),
    "unit_patience": UnitField(),  # 0 until one is learned.
    "unit_histogram": UnitField(dtype=torch.int32, columns=len(STRETCHES)),
    NEW: UnitField(dtype=torch.bool),
    "unit_gradient": UnitField(1.0),  # That of a unit as good as the mean of its layer.
}


def kept_for(state: Any, field: str, population: str) -> Tensor:
    """Returns a field of the units of a population.

    Raises:
        ValueError: If it is not kept.
    """
    fields: Any = getattr(state, "units", ())
    tree = fields.get(field) if isinstance(fields, Mapping) else None
    values = tree.get(population) if isinstance(tree, Mapping) else None
    if not isinstance(values, Tensor):
        made = [*fields] if isinstance(fields, Mapping) else fields
        should = (
            f"hold {field!r} of {population!r}: make it by init(..., units=units, keep=[...]), with the config in use"
        )
        raise ValueError(f"state.units should {should}; found {brief(made)}")
    return values


def with_kept(state: Any, **fields: Mapping[str, Tensor]) -> Any:
    """Returns the state with new values of fields of units, by population."""
    return state._replace(units={**state.units, **{name: {**state.units[name], **new} for name, new in fields.items()}})
