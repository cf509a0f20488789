"""``python -m funcbio compile``: makes the usual programs ahead, lists those that are kept, or removes them."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from funcbio._checks import perhaps
from funcbio.engine._packages import is_kept, load
from funcbio.engine._program import Program
from funcbio.engine._store import clear_packages, folder, kept_packages
from funcbio.experiments.frame.bar import bars
from funcbio.experiments.frame.settings import SettingError
from funcbio.experiments.frame.table import Table
from funcbio.experiments.frame.terminal import console, say
from funcbio.experiments.programs.needed import NAMES, needed

DEVICE = "cpu"
UNITS = (("days", 86_400), ("hours", 3_600), ("minutes", 60))
"""Units of ages, in seconds."""


def run(methods: Sequence[str], dtype: Sequence[str], *, list: bool, clear: bool) -> None:
    """Makes the programs of some methods, of all by default; or lists or removes those that are kept.

    Raises:
        SettingError: If an option makes no sense, the folder cannot be used, or a program cannot be made.
    """
    for name in methods:
        if name not in NAMES:
            raise SettingError(f"methods should be names of methods{perhaps(name, NAMES)}; found {name!r}")
    if (list and clear) or ((list or clear) and methods):
        raise SettingError("methods, --list and --clear should be given one without the others; found several")
    try:
        if clear:
            say(console(), f"{_count(clear_packages())} removed from {folder()}")
        elif list:
            _show(kept_packages())
        else:
            _make(needed(methods or NAMES, [getattr(torch, name) for name in dtype]))
    except (OSError, RuntimeError) as error:
        raise SettingError(str(error).strip().split("\n")[0]) from error


def _make(programs: Sequence[Program]) -> None:
    missing = [program for program in programs if not is_kept(program, DEVICE)]
    with bars() as begin:
        tick = begin("compiling", len(missing))
        for program in missing:
            load(program, DEVICE)
            if not is_kept(program, DEVICE):
                raise SettingError(f"{folder()} should take a program; found that it did not")
            tick()
    say(console(), f"{_count(len(missing))} made, {len(programs) - len(missing)} were there, in {folder()}")


def _show(packages: Sequence[tuple[Path, dict[str, Any]]]) -> None:
    headings = ("rules", "kind", "types", "kB", "seconds", "age")
    rows = [_row(path, note) for path, note in packages]
    console().print(Table(headings, rows, right=("kB", "seconds", "age")))
    say(console(), f"{_count(len(packages))} in {folder()}")


def _row(path: Path, note: dict[str, Any]) -> list[str]:
    status = path.stat()
    rules = ", ".join(note["rules"]) if note else path.stem
    told = [note["kind"], ", ".join(note["types"])] if note else ["damaged", ""]
    return [
        rules,
        *told,
        f"{status.st_size / 1e3:.0f}",
        str(note.get("seconds", "")),
        _age(time.time() - status.st_mtime),
    ]


def _count(number: int) -> str:
    return f"{number} program{'' if number == 1 else 's'}"


def _age(seconds: float) -> str:
    """Returns how old something is, in the largest unit of which it has two or more."""
    name, unit = next(((name, unit) for name, unit in UNITS if seconds >= 2 * unit), ("seconds", 1))
    return f"{seconds / unit:.0f} {name}"
