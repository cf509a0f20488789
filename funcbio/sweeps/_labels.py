"""Labels of a result: names that tell joined results apart, and new names for its lists of mechanisms."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from funcbio._checks import require
from funcbio._seeds import require_one_of
from funcbio.sweeps import _chosen
from funcbio.sweeps._settings import renamed
from funcbio.sweeps._trials import VARIANT

if TYPE_CHECKING:
    from funcbio.sweeps._result import SweepResult


def labelled(result: "SweepResult", labels: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the table, hyper-parameters, settings and choices of a labelled result; see ``SweepResult.label``."""
    new, names = dict(labels), dict[str, str]()
    if isinstance(labels.get(VARIANT), Mapping) and VARIANT in result.hyper:
        names = _names(new.pop(VARIANT), result.table[VARIANT])
    for name, value in new.items():
        if name in result.table or name in result.chosen:
            raise ValueError(f"label should have a new name, not that of a column; found {name!r}")
        require(name, value, "a number or a text", type(value) in (int, float, str, bool))
    settings = renamed(result.settings, {"": new[VARIANT]} if VARIANT in new else names)
    chosen = _chosen.labelled(_replaced(result.chosen, names), new)
    table = _with_columns(_replaced(result.table, names), result.hyper, new)
    return {"table": table, "hyper": [*result.hyper, *new], "settings": settings, "chosen": chosen}


def _names(given: Mapping[Any, Any], column: Sequence[str]) -> dict[str, str]:
    """Returns the new name of every list of mechanisms; raises ValueError if two lists would have one name."""
    there = list(dict.fromkeys(column))
    for old, new in given.items():
        require_one_of("lists of mechanisms", there, **{VARIANT: old})
        require(VARIANT, new, "named by texts", isinstance(new, str))
    names = {old: given.get(old, old) for old in there}
    require(VARIANT, [*names.values()], "given different names", len({*names.values()}) == len(names))
    return names


def _replaced(table: Mapping[str, Sequence[Any]], names: Mapping[str, str]) -> dict[str, list[Any]]:
    """Returns a table with the lists of mechanisms named anew."""
    columns = {name: list(column) for name, column in table.items()}
    return columns | ({VARIANT: [names[old] for old in columns[VARIANT]]} if names and VARIANT in columns else {})


def _with_columns(
    table: Mapping[str, list[Any]], hyper: Sequence[str], labels: Mapping[str, Any]
) -> dict[str, list[Any]]:
    """Returns a table with a further hyper-parameter for each label, behind the others."""
    first = ("member", "seed", *hyper)
    length = len(table["step"])
    columns = {name: table[name] for name in first} | {name: [value] * length for name, value in labels.items()}
    return columns | {name: column for name, column in table.items() if name not in first}
