"""Parts: files that are being written beside the one whose place they will take."""

import os
import platform
import re
import secrets
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import BinaryIO

from funcbio.files._lock import lock

HOST = re.sub(r"\W", "-", platform.node())[:40]
"""Name of this machine in names of parts; parts of other machines are not removed."""

LONGEST_NAME = 255
"""Bytes in a file's name, on nearly every file system."""


def part_of(target: Path) -> Path:
    """Returns the path of a new part: no two writers have the same, in whatever thread, process or machine."""
    suffix = f".{HOST}.{secrets.token_hex(8)}.part"
    return target.with_name(f".{_short(target.name)}{suffix}")


def open_part(part: Path, mode: int, stack: ExitStack) -> BinaryIO:
    """Opens a part for writing and reading, and locks it: while its writer lives, no other process clears it."""

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags, mode)

    while True:
        file = stack.enter_context(open(part, "x+b", opener=opener))  # noqa: SIM115 - in the caller's stack
        lock(file.fileno(), wait=True)
        if os.fstat(file.fileno()).st_nlink:
            return file  # Otherwise another process cleared it before it was locked.


def clear_parts(folder: Path, name: str | None = None) -> None:
    """Removes the parts that killed processes of this machine left in a folder.

    Args:
        folder: The folder.
        name: Only the parts of the file with this name.
    """
    first = "." if name is None else f".{_short(name)}."
    last = re.compile(rf"\.{re.escape(HOST)}\.[0-9a-f]{{16}}\.part$")
    with suppress(OSError):
        for part in [part for part in os.listdir(folder) if part.startswith(first) and last.search(part)]:
            if name is None or last.sub("", part) == first[:-1]:
                _clear(folder / part)


def _clear(part: Path) -> None:
    with suppress(OSError), open(part, "rb") as file:
        if lock(file.fileno()):
            part.unlink()


def _short(name: str) -> str:
    """Cuts a name so that the part's whole name fits into ``LONGEST_NAME``."""
    return os.fsencode(name)[: LONGEST_NAME - len(HOST.encode()) - 30].decode("utf-8", "ignore")
