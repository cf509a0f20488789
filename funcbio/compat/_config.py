"""The configuration of release 0.0.5: a named tuple there, so it has the order and the habits of one here."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import funcbio.bio_config

VERSION = "0.0.5"
FIRST = "weight_splitting_activation_function"
"""The field that the release put first; the others follow in the documented order."""


@dataclass(frozen=True, init=False)
class BioConfig(funcbio.bio_config.BioConfig):
    """The configuration, with the variants of release 0.0.5 as defaults.

    Fields that the release did not know come after those it did, in positions and when iterated over.
    """

    _fields: ClassVar[tuple[str, ...]]
    rejuvenation_variant: str = VERSION
    fuzzy_lr_variant: str = VERSION
    dales_variant: str = VERSION

    def __new__(cls, *values: Any, **named: Any) -> "BioConfig":
        """Also sets the fields if values are given by position: a pickled named tuple is made by this alone."""
        self: Any = super().__new__(cls, **named)
        if values:
            self.__init__(*values, **named)
        return self

    def __init__(self, *values: Any, **named: Any) -> None:
        given = dict(zip(self._fields, values, strict=False))
        if len(given) < len(values) or given.keys() & named.keys():
            raise TypeError(f"BioConfig should be given every field once; found {len(values)} by position and {named}")
        defaults: dict[str, Any] = {item.name: item.default for item in fields(self)}
        super().__init__(**defaults | given | named)

    def _asdict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self._fields}

    def __iter__(self) -> Iterator[Any]:
        """Goes through the values."""
        return iter(self._asdict().values())

    def __len__(self) -> int:
        """Counts the fields."""
        return len(self._fields)

    def __getitem__(self, position: Any) -> Any:
        """Returns the value at a position, or the values of a slice."""
        return tuple(self)[position]


BioConfig._fields = tuple(sorted((item.name for item in fields(BioConfig)), key=lambda name: name != FIRST))
