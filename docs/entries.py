"""What the build of the site mends in entries of the reference, where reading the code alone shows too little."""

import ast
import dataclasses
from collections.abc import Iterator
from enum import Enum
from typing import Any

from griffe import Class, DataclassesExtension, Extension, GriffeLoader, Module, get_expression

from funcbio import BioConfig


class Entries(Extension):
    """Called by griffe when it has read the package."""

    def on_package(self, *, pkg: Module, loader: GriffeLoader, **others: Any) -> None:
        """Mends the entries of dataclasses and of the configuration."""
        del others
        DataclassesExtension().on_package(pkg=pkg)
        for found in classes(pkg):
            show_source(found)
        show_defaults(pkg["bio_config.BioConfig"])
        loader.resolve_aliases(implicit=True, external=False)


def classes(within: Module | Class) -> Iterator[Class]:
    """Every class of a package."""
    for member in within.members.values():
        if isinstance(member, Class):
            yield member
        if isinstance(member, Module | Class):
            yield from classes(member)


def show_source(found: Class) -> None:
    """The ``__init__`` that a decorator makes has no lines of its own; those of the class stand in for them."""
    init = found.members.get("__init__")
    if init is not None and not init.lineno:
        init.lineno, init.endlineno = found.lineno, found.endlineno


def show_defaults(config: Class) -> None:
    """Defaults that a helper takes from other functions, as the values they have."""
    parameters = config.members["__init__"].parameters
    for item in dataclasses.fields(BioConfig):
        shown = ast.parse(spell(item.default), mode="eval").body
        parameters[item.name].default = get_expression(shown, parent=config, parse_strings=False)


def spell(value: Any) -> str:
    """A value as code; members of an enumeration are also taken by their value."""
    if isinstance(value, Enum):
        return repr(value.value)
    return value.__name__ if callable(value) else repr(value)
