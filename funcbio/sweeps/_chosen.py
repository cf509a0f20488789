"""Choices of ``best``, kept with all that is made of its result: a label, a further choice, a join."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from funcbio.sweeps._result import SweepResult

RUNS, AT_END = "runs", "at_end"
Chosen = Mapping[str, Sequence[Any]]


def over(chosen: Chosen, hyper: Collection[str]) -> list[str]:
    """Returns the names of the hyper-parameters that were chosen, which are no columns any more.

    Args:
        chosen: Columns by name; see ``SweepResult.chosen``.
        hyper: The hyper-parameters of the result.
    """
    names = [*chosen]
    return [name for name in names[: names.index(RUNS)] if name not in hyper] if names else []


def labelled(chosen: Chosen, labels: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Returns the columns with one for each label, by which the choices of joined results are told apart."""
    if not chosen:
        return {}
    length = len(chosen[RUNS])
    return {name: [value] * length for name, value in labels.items()} | {n: [*column] for n, column in chosen.items()}


def carried(new: Chosen, old: Chosen, hyper: Collection[str]) -> dict[str, list[Any]]:
    """Returns the columns of a further choice, with what was chosen before for the combination that it chose.

    Args:
        new: The further choice.
        old: The earlier ones.
        hyper: The hyper-parameters that the further choice was made from.
    """
    earlier, columns = over(old, hyper), {name: [*column] for name, column in new.items()}
    if not earlier:
        return columns
    by = [name for name in old if name in hyper]
    before = {tuple(row[name] for name in by): row for row in reversed([*_rows(old)])}
    rows = [before[tuple(row[name] for name in by)] for row in _rows(new)]
    place = [*columns].index(RUNS)
    pairs = zip((row[AT_END] for row in rows), new[AT_END], strict=True)
    columns[AT_END] = [", ".join(filter(None, pair)) for pair in pairs]
    items = [*columns.items()]
    return dict([*items[:place], *((name, [row[name] for row in rows]) for name in earlier), *items[place:]])


def joined(results: Sequence["SweepResult"]) -> dict[str, list[Any]]:
    """Returns the choices of several results; raises ValueError if runs of different choices would be pooled."""
    chosen = [(result.chosen, over(result.chosen, result.hyper)) for result in results]
    for _, names in chosen[1:]:
        _require_same_names(chosen[0][1], names, results)
    seen: dict[tuple[Any, ...], dict[str, Any]] = {}
    hyper = [name for name in chosen[0][0] if name in results[0].hyper]
    for columns, names in chosen:
        for row in _rows(columns):
            values = {name: row[name] for name in names}
            first = seen.setdefault(tuple(row[name] for name in hyper), values)
            _require_same(first, values, {name: row[name] for name in hyper}, results)
    names = dict.fromkeys(name for columns, _ in chosen for name in columns if name != AT_END)
    return {name: [row.get(name) for columns, _ in chosen for row in _rows(columns)] for name in _with_end(names)}


def _with_end(names: Mapping[str, Any]) -> list[str]:
    return [*names, AT_END] if names else []


def _require_same_names(one: Sequence[str], two: Sequence[str], results: Sequence["SweepResult"]) -> None:
    """Raises ValueError if a hyper-parameter was chosen in one of two results only."""
    for name in sorted({*one} ^ {*two}):
        which, without = ("first", "other") if name in one else ("other", "first")
        column = any(name in result.hyper for result in results)
        how = f"best(..., over={name!r})" if column else f"label({name}=...).best(..., over={name!r})"
        should = f"of the same choices; choose in the {without} one too, by result.{how}"
        raise ValueError(f"results should be {should}; found {name!r} chosen in the {which} only")


def _require_same(
    one: Mapping[str, Any], two: Mapping[str, Any], at: Mapping[str, Any], results: Sequence["SweepResult"]
) -> None:
    for name, value in one.items():
        if two[name] != value:
            where = f" at {dict(at)}" if at else ""
            should = f"of the same choices, or told apart: result.label({new_name(results)}=...)"
            raise ValueError(f"results should be {should}; found {name}={value!r} and {name}={two[name]!r}{where}")


def new_name(results: Sequence["SweepResult"]) -> str:
    """Returns a name for a label that no result has as a column."""
    taken = {name for result in results for name in (*result.table, *result.chosen)}
    return next(name for number in count(1) if (name := "part" if number == 1 else f"part_{number}") not in taken)


def _rows(columns: Chosen) -> Iterator[dict[str, Any]]:
    return (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
