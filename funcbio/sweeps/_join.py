"""Results of several sweeps as one."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from funcbio._checks import brief
from funcbio.sweeps import _chosen
from funcbio.sweeps._settings import require_same

if TYPE_CHECKING:
    from funcbio.sweeps._result import SweepResult

Table = dict[str, list[Any]]


def joined(results: Sequence["SweepResult"]) -> dict[str, Any]:
    """Returns the arguments of the joined result; see ``SweepResult.join``."""
    first = results[0]
    for other in results[1:]:
        _require_fitting(first, other)
    chosen = _chosen.joined(results)
    for other in results[1:]:
        require_same(first.settings, other.settings, [*first.hyper, *_chosen.over(first.chosen, first.hyper)])
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
        "chosen": chosen,
    }


def _require_fitting(first: "SweepResult", other: "SweepResult") -> None:
    """Raises ValueError if two results have other columns, steps or parameters."""
    for name in sorted({*first.hyper} ^ {*other.hyper}):
        which, without = ("first", other) if name in first.hyper else ("other", first)
        chosen = name in _chosen.over(without.chosen, without.hyper)
        label, choice = f"name a constant one by result.label({name}=...)", f"result.best(..., over={name!r})"
        should = f"of the same hyper-parameters; {f'choose in the {which} too, by {choice}' if chosen else label}"
        raise ValueError(f"results should be {should}; found {name!r} in the {which} only")
    for what, one, two in (
        ("metrics", sorted(first.metrics), sorted(other.metrics)),
        ("steps in the table", sorted({*first.table["step"]}), sorted({*other.table["step"]})),
        ("parameters", _shapes(first), _shapes(other)),
    ):
        if one != two:
            raise ValueError(f"results should be of the same {what}; found {brief(one)} and {brief(two)}")


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
