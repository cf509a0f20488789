"""The owner of a folder: one run at a time, which says who it is."""

import os
import platform
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import BinaryIO

from funcbio.files._cleanup import cleaned_up
from funcbio.files._lock import lock

FILE = "owner.txt"
"""Name of the file that describes the owner of a folder; it is there as long as a run owns the folder."""


class _Mine(threading.local):
    """Lists the folders that this thread owns."""

    def __init__(self) -> None:
        self.folders: list[Path] = []


_mine = _Mine()
_open: dict[BinaryIO, ExitStack] = {}
"""Lock files of this process, each with the stack that releases it."""


def _forget() -> None:
    """Forgets all folders in a forked process: they stay those of its parent."""
    for file, stack in list(_open.items()):
        stack.pop_all()
        file.close()
    _open.clear()
    _mine.folders.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


@cleaned_up
def owned(stack: ExitStack, folder: Path, what: str = "output") -> Iterator[None]:
    """Makes a folder, and keeps all others off it: other threads, processes and, on shared disks, machines.

    The folders of a killed process are free. Within the block, the same thread may own the folder again.

    Args:
        stack: Releases the folder.
        folder: The folder.
        what: Name of the argument that holds the folder, for the message.

    Raises:
        ValueError: If another process owns it, which the message names, or it is a file.
        OSError: If it cannot be made or written to.
    """
    place = Path(os.path.realpath(folder))
    if place not in _mine.folders:
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"{what} should be a folder; found a file: {str(folder)!r}")
        folder.mkdir(parents=True, exist_ok=True)
        _take(place / FILE, what, stack)
        _mine.folders.append(place)
        stack.callback(_mine.folders.remove, place)
    yield


def _take(path: Path, what: str, stack: ExitStack) -> None:
    """Opens and locks the file until the stack is closed; the file of a killed process is taken over."""
    while True:
        with ExitStack() as trial:
            new = not path.exists()
            try:
                file = trial.enter_context(open(path, "x+b" if new else "r+b", buffering=0))
            except (FileExistsError, FileNotFoundError):
                continue  # Taken or released just now.
            locked = lock(file.fileno())
            if locked is False or (locked is None and not new):
                _refuse(path, file.read().decode(errors="replace").strip(), what, killed=locked is None)
            if os.fstat(file.fileno()).st_nlink:
                _keep(path, file, stack)
                trial.pop_all()
                return


def _keep(path: Path, file: BinaryIO, stack: ExitStack) -> None:
    stack.callback(_open.pop, file, None)
    _open[file] = stack
    remove = partial(path.unlink, missing_ok=True)
    # The stack runs the last one first: the file is removed while it is locked, so that others who have opened it see
    # that it is gone; on Windows, where open files cannot be removed, it is closed before.
    for last in (remove, file.close) if os.name == "nt" else (file.close, remove):
        stack.callback(last)
    file.truncate()
    file.write(_note().encode())


def _refuse(path: Path, owner: str, what: str, *, killed: bool) -> None:
    advice = f"; if that one is gone, remove {path}" if killed else ""
    raise ValueError(
        f"{what} should be a folder in which no other run works; found {str(path.parent)!r} in use by "
        f"{owner or 'one that has just begun'}{advice}"
    )


def _note() -> str:
    since = datetime.now().astimezone().isoformat(" ", "seconds")
    return f"process {os.getpid()} on {platform.node()} since {since} ({Path(sys.argv[0]).name or 'python'})"
