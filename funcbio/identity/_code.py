"""Checksums of a function's code, independent of its place and of the version of Python; and its outer names."""

import ast
import dis
import hashlib
import inspect
import platform
import sys
from collections.abc import Iterator
from functools import lru_cache
from types import CodeType

PYTHON = platform.python_version() + ("" if sys.flags.optimize == 0 else f" -O{sys.flags.optimize}")
"""Bytecode can be compared with that of the same Python only; source with that of any."""

SOURCE = "source"
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)

NOTES = ("__firstlineno__", "__static_attributes__")

Name = tuple[str, ...]
"""A dotted name, in its parts."""


def digests(code: CodeType) -> dict[str, str]:
    """Returns checksums of a function's bytecode, by the version of Python, and of its source if it can be found.

    Neither depends on the place of the code in a file, on comments or on docstrings.
    """
    checksums = {PYTHON: _digest(repr(_spelled(code)))}
    source = _source(code)
    return checksums if source is None else checksums | {SOURCE: _digest(source)}


def outer_names(code: CodeType) -> list[Name]:
    """Returns the dotted names that a function loads from outside, as far as they are spelled out: ``args.width``."""
    return sorted(set(_loads(code, code.co_freevars)))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]


def _spelled(value: object) -> object:
    """Returns what determines a constant, which may be code; equal by repr where the code does the same."""
    if isinstance(value, CodeType):
        rests = [bool(value.co_flags & flag) for flag in (inspect.CO_VARARGS, inspect.CO_VARKEYWORDS)]
        arguments = value.co_argcount + value.co_kwonlyargcount + sum(rests)
        counts = value.co_argcount, value.co_posonlyargcount, value.co_kwonlyargcount, rests
        return counts, value.co_varnames[:arguments], _steps(value), getattr(value, "co_exceptiontable", b"")
    if isinstance(value, tuple):
        return tuple(_spelled(item) for item in value)
    return sorted(map(repr, value)) if isinstance(value, frozenset) else value


def _steps(code: CodeType) -> list[tuple[str, object]]:
    """Lists the instructions, but those of a class that only store its line number and its attributes' names.

    Python 3.13 stores both; the names come in another order in every process.
    """
    steps: list[tuple[str, object]] = []
    for instruction in dis.get_instructions(code):
        if instruction.opname == "STORE_NAME" and instruction.argval in NOTES:
            steps.pop()  # The load of the stored value.
        else:
            steps.append(_step(instruction))
    return steps


def _step(instruction: dis.Instruction) -> tuple[str, object]:
    """Returns an instruction with the value that it loads, not its index: a docstring shifts those of constants."""
    if instruction.opcode in dis.hasconst:
        return instruction.opname, _spelled(instruction.argval)
    return instruction.opname, instruction.argrepr if instruction.opcode in dis.hasname else instruction.arg


def _source(code: CodeType) -> str | None:
    """Returns the source without comments and docstrings; None if it is missing, or two functions match."""
    try:
        lines, _ = inspect.findsource(code)
        sources = {text for line, name, text in _functions("".join(lines)) if (line, name) == _place(code)}
    except (OSError, SyntaxError, ValueError, RecursionError):
        return None
    return sources.pop() if len(sources) == 1 else None


def _place(code: CodeType) -> tuple[int, str]:
    return code.co_firstlineno, code.co_name


@lru_cache(maxsize=64)
def _functions(text: str) -> list[tuple[int, str, str]]:
    """Lists first line, name and source of all functions in a file."""
    functions = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Lambda):
            functions.append((node.lineno, "<lambda>", ast.unparse(node)))
        elif isinstance(node, FUNCTIONS):
            line = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            functions.append((line, node.name, _bare(node)))
    return functions


def _bare(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    for inner in ast.walk(node):
        if isinstance(inner, (*FUNCTIONS, ast.ClassDef)) and ast.get_docstring(inner, clean=False) is not None:
            inner.body = inner.body[1:] or [ast.Pass()]
    return f"{ast.unparse(node.args)}: {ast.unparse(ast.Module(node.body, []))}"


def _loads(code: CodeType, around: tuple[str, ...]) -> Iterator[Name]:
    instructions = list(dis.get_instructions(code))
    for at, first in enumerate(instructions):
        kind, name = first.opname, [str(first.argval)]
        if kind in ("LOAD_GLOBAL", "LOAD_NAME") or ("DEREF" in kind and kind.startswith("LOAD") and name[0] in around):
            for following in instructions[at + 1 :]:
                if following.opname not in ("LOAD_ATTR", "LOAD_METHOD"):
                    break
                name.append(str(following.argval))
            yield tuple(name)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _loads(constant, around)
