"""Results of several sweeps as one, and names that tell them apart."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from funcbio._checks import brief, require
from funcbio.sweeps._settings import require_same

if TYPE_CHECKING:
    from funcbio.sweeps._result import SweepResult

Table = dict[str, list[Any]]


def joined(results: Sequence["SweepResult"]) -> dict[str, Any]:
    """Returns the arguments of the joined result; see ``SweepResult.join``."""
    first = results[0]
    for other in results[1:]:
        _require_fitting(first, other)
    _require_distinct(results)
    return {
        "table": _table(results),
        "hyper": first.hyper,
        "params": _stacked([result.params for result in results]),
        "buffers": _stacked([result.buffers for result in results]),
        "seconds": sum(result.seconds for result in results),
        "compile_seconds": sum(result.compile_seconds for result in results),
        "member_steps": sum(result.member_steps for result in results),
        "names": first.names,
        "compiled": [why for result in results for why in result.compiled],
        "settings": {path: entry for result in reversed(results) for path, entry in result.settings.items()},
    }


def _require_fitting(first: "SweepResult", other: "SweepResult") -> None:
    """Raises ValueError if two results have other columns, steps, settings or parameters."""
    for name in sorted({*first.hyper} ^ {*other.hyper}):
        which = "first" if name in first.hyper else "other"
        should = f"of the same hyper-parameters; name a constant one by result.label({name}=...)"
        raise ValueError(f"results should be {should}; found {name!r} in the {which} only")
    for what, one, two in (
        ("metrics", sorted(first.metrics), sorted(other.metrics)),
        ("steps in the table", sorted({*first.table["step"]}), sorted({*other.table["step"]})),
        ("parameters", _shapes(first), _shapes(other)),
    ):
        if one != two:
            raise ValueError(f"results should be of the same {what}; found {brief(one)} and {brief(two)}")
    require_same(first.settings, other.settings, first.hyper)


def _shapes(result: "SweepResult") -> list[tuple[str, tuple[int, ...]]]:
    return sorted((name, tuple(stack.shape[1:])) for name, stack in (result.params | result.buffers).items())


def _require_distinct(results: Sequence["SweepResult"]) -> None:
    """Raises ValueError if a seed was run with the same hyper-parameters in two results."""
    hyper, seen = results[0].hyper, {}
    for number, result in enumerate(results):
        for seed, *values in zip(*(result.table[name] for name in ("seed", *hyper)), strict=True):
            if seen.setdefault((seed, *values), number) != number:
                at = f" at {dict(zip(hyper, values, strict=True))}" if hyper else ""
                raise ValueError(f"results should have no run in common; found seed {seed}{at} in two of them")


def _table(results: Sequence["SweepResult"]) -> Table:
    """Returns the tables below one another, with members numbered on."""
    table: Table = {name: [] for name in results[0].table}
    start = 0
    for result in results:
        for name in table:
            column = result.table[name]
            table[name] += [start + member for member in column] if name == "member" else column
        start += result.members
    return table


def _stacked(stacks: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat([each[name] for each in stacks]) for name in stacks[0]}


def labelled(table: Mapping[str, Sequence[Any]], hyper: Iterable[str], labels: Mapping[str, Any]) -> Table:
    """Returns a table with a further hyper-parameter for each label; see ``SweepResult.label``."""
    for name, value in labels.items():
        require(name, value, "a number or a text", type(value) in (int, float, str, bool))
        if name in table:
            raise ValueError(f"label should have a new name, not that of a column; found {name!r}")
    count = len(table["step"])
    first = ("member", "seed", *hyper)
    columns = {name: list(table[name]) for name in first} | {name: [value] * count for name, value in labels.items()}
    return columns | {name: list(column) for name, column in table.items() if name not in first}
