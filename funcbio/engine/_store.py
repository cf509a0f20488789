"""The folder in which compiled programs wait for the next process: they are code, so it has to be the user's own."""

import hashlib
import os
import platform
import re
import stat
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from funcbio.files._aside import write_aside
from funcbio.files._cleanup import cleaned_up
from funcbio.files._error import FileError
from funcbio.files._lock import lock, unlock
from funcbio.files._parts import clear_parts
from funcbio.files._seal import digest, read_json, sealed_json

VARIABLE = "FUNCBIO_CACHE_DIR"
"""Environment variable that names another folder."""
PACKAGE, NOTE, LOCK = ".pt2", ".json", ".lock"
NAME = re.compile(r"-[0-9a-f]{24}$")
"""The end of every package's name."""
OWN = 0o600
"""Permissions of the files."""
ROOT = Path(__file__).parent.parent
RULES = ("engine", "mechanisms", "rng", "tensors", "base.py")
"""What of the library's code goes into programs."""


def folder() -> Path:
    """Returns the folder of the user's programs."""
    given = os.environ.get(VARIABLE)
    if given:
        return Path(given).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "funcbio" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "funcbio"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "funcbio"


def own_folder() -> Path:
    """Makes the folder if there is none, for the user alone; returns where it really is.

    Raises:
        OSError: If it cannot be made, or is not the user's own.
    """
    place = folder()
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    place = place.resolve()
    require_own(place)
    return place


def require_own(path: Path) -> None:
    """Raises OSError if others than the user, and root, own a file or folder or can write to it: its code is run."""
    if not hasattr(os, "geteuid"):
        return
    status = path.stat()
    if status.st_uid not in (os.geteuid(), 0):
        raise OSError(f"{path} should be the user's own; found that it is user {status.st_uid}'s")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise OSError(f"{path} should be one that only its owner can write to; found that others can: chmod go-w")


def package_of(name: str, place: Path) -> Path | None:
    """Returns the package of that name; None if there is none.

    Raises:
        FileError: If it is damaged.
        OSError: If it cannot be read, or is not the user's own.
    """
    path = place / f"{name}{PACKAGE}"
    if not path.exists() or not path.with_suffix(NOTE).exists():
        return None
    require_own(path)
    if read_json(path.with_suffix(NOTE)).get("package") != checksum(path):
        raise FileError(f"{path} should be as it was written; found bytes that do not match its checksum")
    return path


def keep_package(name: str, made: Path, place: Path, about: dict[str, Any]) -> None:
    """Puts a package into the folder, first itself, then the note that says it is whole."""
    path = place / f"{name}{PACKAGE}"
    note = sealed_json({**about, "package": checksum(made)})
    try:
        write_aside(path, lambda file: file.write(made.read_bytes()), OWN)
        write_aside(path.with_suffix(NOTE), lambda file: file.write(note), OWN)
    except BaseException:
        drop_package(name, place)
        raise


def drop_package(name: str, place: Path) -> None:
    """Removes what there is of a package, where that is possible."""
    for ending in (NOTE, PACKAGE):
        with suppress(OSError):
            (place / f"{name}{ending}").unlink()


@cleaned_up
def alone(stack: ExitStack, name: str, place: Path) -> Iterator[None]:
    """Waits until no other process, and no other thread, makes the package of that name."""
    file = stack.enter_context(open(place / f"{name}{LOCK}", "ab"))  # noqa: SIM115 - on the stack
    lock(file.fileno(), wait=True)
    stack.callback(unlock, file.fileno())
    yield


def kept_packages() -> list[tuple[Path, dict[str, Any]]]:
    """Lists the packages in the folder, with what their notes say; of damaged ones nothing."""
    found = []
    for path in _files(PACKAGE):
        try:
            found.append((path, read_json(path.with_suffix(NOTE))))
        except (OSError, FileError):
            found.append((path, {}))
    return found


def clear_packages() -> int:
    """Removes all packages from the folder, and nothing else that lies there; returns how many there were."""
    packages = _files(PACKAGE)
    for path in [*_files(NOTE), *packages, *_files(LOCK)]:
        path.unlink(missing_ok=True)
    clear_parts(folder())
    return len(packages)


def _files(ending: str) -> list[Path]:
    """Returns the files of packages with that ending, in order."""
    return sorted(path for path in folder().glob(f"*{ending}") if NAME.search(path.stem))


def checksum(path: Path) -> str:
    """Returns the checksum of a file."""
    with open(path, "rb") as file:
        return digest(file, path.stat().st_size).decode()


@lru_cache(maxsize=1)
def rules() -> str:
    """Returns a checksum of the library's code that goes into programs."""
    files = [
        file for name in RULES for file in sorted([*(ROOT / name).glob("*.py*"), *ROOT.glob(name)]) if file.is_file()
    ]
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()


@lru_cache(maxsize=4)
def machine(device: str) -> str:
    """Describes what machine code depends on: torch, and the processor or the graphics card."""
    parts = [torch.__version__, str(torch.version.git_version), sys.platform, platform.machine(), device]
    if device == "cuda":
        return " ".join(
            [*parts, str(torch.version.cuda), torch.cuda.get_device_name(), str(torch.cuda.get_device_capability())]
        )
    return " ".join([*parts, torch.backends.cpu.get_cpu_capability(), _processor()])


def _processor() -> str:
    """Returns a checksum of the instructions that the processor knows; its name where the system does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    known = next((line for line in lines if line.lower().startswith(("flags", "features"))), "")
    return hashlib.sha256(" ".join(sorted(known.split())).encode()).hexdigest()[:16]
