"""The configuration of release 0.0.5: a named tuple there, so it has the order and the habits of one here."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import funcbio.bio_config
from funcbio.bio_config import ConfigError
from funcbio.compat._errors import UnknownFieldError, limit_broken
from funcbio.mechanisms._release import VERSION

FIRST = "weight_splitting_activation_function"
"""The field that the release put first; the others follow in the documented order."""


@dataclass(frozen=True, init=False)
class BioConfig(funcbio.bio_config.BioConfig):
    """Holds the configuration, with the variants of release 0.0.5 as defaults.

    Fields that the release did not know come after those it did, in positions and when iterated over.
    """

    _fields: ClassVar[tuple[str, ...]]
    rejuvenation_variant: str = VERSION
    fuzzy_lr_variant: str = VERSION
    dales_variant: str = VERSION

    def __new__(cls, *values: Any, **named: Any) -> "BioConfig":
        """Makes a configuration, and sets its fields by position: unpickling a named tuple calls no ``__init__``."""
        for name in named:
            if name not in _names(cls):
                raise UnknownFieldError(f"{cls.__name__}.__new__() got an unexpected keyword argument {name!r}")
        self: Any = super().__new__(cls, **named)
        if values:
            self.__init__(*values, **named)
        return self

    def __init__(self, *values: Any, **named: Any) -> None:
        by_position = dict(zip(self._fields, values, strict=False))
        if len(by_position) < len(values) or by_position.keys() & named.keys():
            raise TypeError(f"BioConfig should be given every field once; found {len(values)} by position and {named}")
        defaults: dict[str, Any] = {item.name: item.default for item in fields(self)}
        library_fields = {item.name for item in fields(funcbio.bio_config.BioConfig)}
        for name, value in (defaults | by_position | named).items():
            if name not in library_fields:
                object.__setattr__(self, name, value)  # Of a class that adds fields.
        super().__init__(
            **{name: value for name, value in (defaults | by_position | named).items() if name in library_fields}
        )

    def __post_init__(self) -> None:
        """Checks the fields; errors that the release had too are in its words."""
        try:
            super().__post_init__()
        except ConfigError as error:
            text = limit_broken(self._asdict())
            raise ConfigError(text or str(error)) from None

    def replace(self, **changes: Any) -> "BioConfig":
        """Returns a copy with some fields changed, checked anew."""
        unknown = [name for name in changes if name not in _names(type(self))]
        if unknown:
            raise UnknownFieldError(f"Got unexpected field names: {unknown!r}")
        return type(self)(**{name: getattr(self, name) for name in _names(type(self))} | changes)

    _replace = replace

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


def _names(config_class: type[BioConfig]) -> list[str]:
    return [item.name for item in fields(config_class)]


BioConfig._fields = tuple(sorted((item.name for item in fields(BioConfig)), key=lambda name: name != FIRST))
