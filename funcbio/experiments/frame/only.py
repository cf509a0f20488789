"""The option ``--only``: which methods, tasks and optimizers an experiment runs."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from funcbio.base import by_nearness, listed
from funcbio.experiments.frame.settings import SettingError

Groups = Mapping[str, Sequence[str]]
"""Names by group, such as "methods" and "tasks", in the order in which they run."""


def option(groups: str) -> dict[str, Any]:
    """Returns the arguments of the option, with the groups in its help."""
    explained = f"names of {groups}; a group of which none is named runs whole (default: everything)"
    return {"nargs": "+", "metavar": "NAME", "help": explained}


def chosen(only: Sequence[str] | None, groups: Groups, always: Sequence[str] = ()) -> dict[str, list[str]]:
    """Returns the names of each group that are chosen: those that are named, or all of a group of which none is.

    Args:
        only: The names; None chooses everything.
        groups: All names.
        always: Names that come along with others of their group, to be compared with.

    Raises:
        SettingError: If there is no such name; the message lists the nearest ones.
    """
    names = [name for group in groups.values() for name in group]
    for name in only or ():
        if name not in names:
            nearest = listed(map(repr, by_nearness(name, names)))
            raise SettingError(f"only should be some of {nearest}; found {name!r}")
    named = {group: [name for name in each if name in (only or ())] for group, each in groups.items()}
    return {
        group: [name for name in each if not named[group] or name in (*named[group], *always)]
        for group, each in groups.items()
    }


def folder_name(name: str, some: Sequence[str], every: Sequence[str]) -> str:
    """Returns the name of the folder of a sweep, another for each choice: a folder takes one sweep."""
    if [*some] == [*every]:
        return name
    return f"{name}-{hashlib.sha256('; '.join(some).encode()).hexdigest()[:8]}"
