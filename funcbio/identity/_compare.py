"""Comparison of two descriptions: entries that differ, and entries that cannot be compared."""

from collections.abc import Callable
from enum import Enum
from typing import Any, NamedTuple

from funcbio.identity._tensor import nearly_equal

Entry = dict[str, Any]


class Verdict(Enum):
    """Names the outcomes of comparing two entries."""

    EQUAL = True
    DIFFERENT = False
    ROUNDED = "rounded"
    UNSEEN = "unseen"
    VERSION = "version"


class Comparison(NamedTuple):
    """Holds the result of comparing two descriptions.

    Attributes:
        different: The first path at which they differ, with both entries as text; None if they are equal.
        unseen: Paths of entries that cannot be compared, each with its name.
        rounded: Paths of tensors that differ by rounding.
        versions: Programs whose versions differ.
    """

    different: tuple[str, str, str] | None
    unseen: list[str]
    rounded: list[str]
    versions: list[str]


def compare(before: dict[str, Any], now: dict[str, Any]) -> Comparison:
    """Compares an earlier description of some things with their description now."""
    by_verdict: dict[Verdict, list[tuple[str, str, str]]] = {verdict: [] for verdict in Verdict}
    for path in dict.fromkeys((*now, *before)):
        one, other = before.get(path, "nothing"), now.get(path, "nothing")
        by_verdict[_verdict(one, other)].append((path, shown(one), shown(other)))
    return Comparison(
        next(iter(by_verdict[Verdict.DIFFERENT]), None),
        [f"{path} ({name})" for path, _, name in by_verdict[Verdict.UNSEEN]],
        [path for path, _, _ in by_verdict[Verdict.ROUNDED]],
        [f"{path} {old}, now {new}" for path, old, new in by_verdict[Verdict.VERSION]],
    )


def _verdict(one: Any, other: Any) -> Verdict:
    for kind, verdict in KINDS.items():
        if isinstance(one, dict) and isinstance(other, dict) and kind in one and kind in other:
            return verdict(one, other)
    return Verdict(one == other)


def _tensors(one: Entry, other: Entry) -> Verdict:
    if one["tensor"] == other["tensor"] and one["digest"] == other["digest"]:
        return Verdict.EQUAL
    if not nearly_equal(one, other):
        return Verdict.DIFFERENT
    return Verdict.EQUAL if one["computed"] else Verdict.ROUNDED


def _code(one: Entry, other: Entry) -> Verdict:
    """Compares bytecode if both are of one version of Python, and source otherwise."""
    common = sorted(one["code"].keys() & other["code"].keys())  # Numbers of versions come before "source".
    return Verdict(one["code"][common[0]] == other["code"][common[0]]) if common else Verdict.UNSEEN


def _unseen(one: Entry, other: Entry) -> Verdict:
    return Verdict.UNSEEN if one == other else Verdict.DIFFERENT


def _version(one: Entry, other: Entry) -> Verdict:
    return Verdict.EQUAL if one == other else Verdict.VERSION


KINDS: dict[str, Callable[[Entry, Entry], Verdict]] = {
    "tensor": _tensors,
    "code": _code,
    "unseen": _unseen,
    "version": _version,
}
"""Comparisons of entries that are dictionaries, by the key that only such an entry has."""


def shown(entry: Any) -> str:
    """Returns an entry of a table as text for a message."""
    if not isinstance(entry, dict):
        return str(entry)
    if "code" in entry:
        return f"code {next(iter(entry['code'].values()))}"
    return f"{entry['tensor']} {entry['digest']}" if "tensor" in entry else str(next(iter(entry.values())))
