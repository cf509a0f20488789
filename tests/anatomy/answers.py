"""Answers written by hand: which unit feeds which input, as plain lists."""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import nn


class Answer(NamedTuple):
    """What is true of the units of one layer.

    ``feeds``: for every weight that they reach the unit of each channel, and whether it arrives alone.
    ``parts``: for every tensor with entries of theirs the unit of each.
    ``replaceable``: the units that may be replaced.
    """

    feeds: dict[str, tuple[list[int], list[bool]]]
    parts: dict[str, list[int]]
    replaceable: list[int]


class Net(NamedTuple):
    """A model, an example, and the answers by the name of the weight whose units are asked for."""

    make: Callable[[], nn.Module]
    example: tuple[Any, ...]
    answers: dict[str, Answer]
    unknown: tuple[str, ...] = ()


def alone(*owner):
    """Channels that carry a unit carry nothing else; -1 stands for channels of others."""
    return [*owner], [unit >= 0 for unit in owner]


def met(*owner):
    """Something else arrives on every channel: another layer's units, a free parameter or the input of the model."""
    return [*owner], [False] * len(owner)


def mixed(channels):
    """Every channel depends on several units."""
    return [-2] * channels, [False] * channels


def last(parts):
    """The units of a layer whose output is that of the model."""
    return Answer({}, parts, [])


def found(units):
    """The same, from a table."""
    return {name: _found(population) for name, population in units.items()}


def _found(population):
    feeds = {edge.weight: (edge.owner.tolist(), edge.exclusive.tolist()) for edge in population.edges}
    parts = {part.name: part.unit.tolist() for part in population.parts}
    return Answer(feeds, parts, population.replaceable.nonzero().flatten().tolist())
