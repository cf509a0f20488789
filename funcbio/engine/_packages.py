"""Programs as packages: compiled once on a machine, and loaded in milliseconds by later processes.

Where that fails, torch compiles the same program for this process.
"""

import hashlib
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from contextvars import ContextVar
from functools import lru_cache
from pathlib import Path
from threading import RLock
from types import FunctionType
from typing import Any

from funcbio._checks import outside
from funcbio.engine._building import AHEAD, Runner, build, check, compile_here, open_package, without_modes
from funcbio.engine._kernel import Kernel
from funcbio.engine._options import OPTIONS
from funcbio.engine._program import Loop, Program
from funcbio.engine._store import alone, drop_package, keep_package, machine, own_folder, package_of, rules
from funcbio.files._cleanup import cleaned_up
from funcbio.files._error import FileError
from funcbio.identity._describe import describe

HERE = "torch compiles it for this process alone"
PART = "funcbio-"
"""Beginning of the names of temporary folders."""
COVERED = ("torch", "funcbio")
"""Libraries whose code a package's name tells apart by other means."""
_told: set[str] = set()
_building = RLock()
_wanted: ContextVar[dict[Program, None] | None] = ContextVar("_wanted", default=None)


def _renew() -> None:
    """Makes the lock anew in a child process: the thread that held it is not there."""
    global _building
    _building = RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


def runner(program: Program, device: str) -> Runner:
    """Returns what runs a program: its package, else what torch compiles for this process.

    Raises:
        Exception: If torch cannot compile it either.
    """
    wanted = _wanted.get()
    if wanted is not None:
        wanted[program] = None
        return lambda inputs: program(*inputs) or ()
    with _building:  # Torch's compiler is not made for several threads.
        return _runner(program, device)


@lru_cache(maxsize=256)
def _runner(program: Program, device: str) -> Runner:
    if not OPTIONS.packages:
        return compile_here(program, device)
    try:
        return load(program, device)
    except Exception as error:
        run = compile_here(program, device)
        _warn(error, HERE)
        return run


def load(program: Program, device: str) -> Runner:
    """Loads the package of a program, and makes it first if there is none that is whole.

    Raises:
        OSError: If the folder cannot be used.
        CheckError: If the package computes other numbers than the rules.
    """
    place, name = own_folder(), name_of(program, device)
    path = None
    with suppress(FileError):  # Another process may be writing it; if not, it is made anew.
        path = package_of(name, place)
    if path is None:
        return _made(program, device, name, place)
    run = open_package(path)
    if _strangers(program):  # Descriptions of code are not as sure as a library's checksum.
        without_modes(lambda: check(program, run, device))
    return run


@cleaned_up
def only_noted(stack: ExitStack) -> Iterator[dict[Program, None]]:
    """Notes the programs that are asked for, in order, and runs them without compiling, as long as the context lasts.

    Yields:
        The programs, as keys.
    """
    noted: dict[Program, None] = {}
    stack.callback(_wanted.set, _wanted.get())
    _wanted.set(noted)
    yield noted


def is_kept(program: Program, device: str) -> bool:
    """Returns True if there is a whole package of the program.

    Raises:
        OSError: If the folder cannot be used.
    """
    with suppress(FileError):
        return package_of(name_of(program, device), own_folder()) is not None
    return False


def name_of(program: Program, device: str) -> str:
    """Returns the name of a program's package: that of all programs of the same code on the same kind of machine."""
    text = "\n".join([machine(device), rules(), repr(_spelled(program)), repr(sorted(AHEAD.items()))])
    return f"{'-'.join(_titles(program))[:80]}-{hashlib.sha256(text.encode()).hexdigest()[:24]}"


def about(program: Program) -> dict[str, Any]:
    """Describes a program for people."""
    types = sorted({str(dtype).removeprefix("torch.") for dtype in program.types} - {"uint8", "bool"})
    kind = "statistics" if not isinstance(program, Loop) else "rules and statistics" if program.counts else "rules"
    return {"kind": kind, "rules": _titles(program), "types": types}


def _kernels(program: Program) -> tuple[Kernel, ...]:
    return program.kernels if isinstance(program, Loop) else (program.kernel,)


def _titles(program: Program) -> list[str]:
    return [getattr(kernel.rule, "__name__", "rule") for kernel in _kernels(program)]


def _spelled(program: Program) -> Any:
    """Returns what tells programs apart, in words that are the same in every process."""
    rest = (program.hyper, program.facts, program.fact_types) if isinstance(program, Loop) else ()
    return type(program).__name__, [_spelled_kernel(kernel) for kernel in _kernels(program)], program.types, rest


def _spelled_kernel(kernel: Kernel) -> Any:
    functions = _functions(kernel)
    draws = [(draw.stream, draw.like, draw.law.outputs) for draw in kernel.draws]
    lines = [one.__code__.co_firstlineno for one in functions if isinstance(one, FunctionType)]  # Lambdas share a name.
    code = describe({str(at): one for at, one in enumerate(functions)}, _is_covered)
    return kernel.reads, kernel.writes, kernel.of, sorted(kernel.whole), draws, lines, code


def _functions(kernel: Kernel) -> list[Any]:
    laws = [function for draw in kernel.draws for function in (draw.law.single, draw.law.double)]
    return [kernel.rule, *([kernel.statistics] if kernel.statistics else []), *laws]


def _is_covered(module: str | None) -> bool:
    top = (module or "").partition(".")[0]
    return top in COVERED or top in sys.stdlib_module_names


def _strangers(program: Program) -> bool:
    """Returns True if a rule is not of the library."""
    functions = [function for kernel in _kernels(program) for function in _functions(kernel)]
    return not all(str(getattr(one, "__module__", "")).startswith("funcbio.") for one in functions)


def _made(program: Program, device: str, name: str, place: Path) -> Runner:
    """Makes a package, checks it, and keeps it; or waits for another process that does."""
    with alone(name, place), tempfile.TemporaryDirectory(prefix=PART, ignore_cleanup_errors=True) as folder:
        path = _whole(name, place)
        if path is not None:
            return open_package(path)
        made, began = Path(folder) / "program.pt2", time.monotonic()
        build(program, device, made)
        run, seconds = open_package(made), round(time.monotonic() - began, 1)
        try:
            keep_package(name, made, place, {**about(program), "seconds": seconds})
        except OSError as error:
            _warn(error, "it serves this process alone")
        return run


def _whole(name: str, place: Path) -> Path | None:
    """Returns the package of that name; None, and a warning, if it is damaged: then it is removed."""
    try:
        return package_of(name, place)
    except FileError as error:
        _warn(error, "it is made anew")
        drop_package(name, place)
        return None


def _warn(error: Exception, then: str) -> None:
    """Warns, once for every cause, that a program could not be kept or loaded."""
    cause = str(error).strip().split("\n")[0] or type(error).__name__
    kind = getattr(error, "strerror", None) or cause  # Names of temporary files are always new.
    if kind not in _told:
        _told.add(kind)
        message = f"compile=True should find or keep a compiled program: {then} ({cause})"
        warnings.warn(message, stacklevel=outside())
