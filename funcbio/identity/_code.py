"""What a function's code is, wherever it stands and whatever Python runs it; and which names it looks up outside."""

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
    """Returns checksums of a function's bytecode and, if it can be found, of its source, by what they are of.

    Neither depends on the place of the code in a file, on comments or on docstrings.
    """
    found = {PYTHON: _digest(repr(_spelled(code)))}
    source = _source(code)
    return found if source is None else found | {SOURCE: _digest(source)}


def outer_names(code: CodeType) -> list[Name]:
    """Returns the dotted names that a function loads from around it, as far as they are spelled out: ``args.width``."""
    return sorted(set(_loads(code, code.co_freevars)))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]


def _spelled(value: object) -> object:
    """What determines a constant of the code, or code; spelled alike by repr where it does the same."""
    if isinstance(value, CodeType):
        rests = [bool(value.co_flags & flag) for flag in (inspect.CO_VARARGS, inspect.CO_VARKEYWORDS)]
        arguments = value.co_argcount + value.co_kwonlyargcount + sum(rests)
        counts = value.co_argcount, value.co_posonlyargcount, value.co_kwonlyargcount, rests
        return counts, value.co_varnames[:arguments], _steps(value), getattr(value, "co_exceptiontable", b"")
    if isinstance(value, tuple):
        return tuple(_spelled(item) for item in value)
    return sorted(map(repr, value)) if isinstance(value, frozenset) else value


def _steps(code: CodeType) -> list[tuple[str, object]]:
    """The instructions, but for those of a class that only note where it stands and which attributes it sets.

    Python 3.13 keeps both; the names come in an order of their own in every process.
    """
    found: list[tuple[str, object]] = []
    for instruction in dis.get_instructions(code):
        if instruction.opname == "STORE_NAME" and instruction.argval in NOTES:
            found.pop()  # What is loaded to be stored.
        else:
            found.append(_step(instruction))
    return found


def _step(instruction: dis.Instruction) -> tuple[str, object]:
    """An instruction with what it loads, not with where that stands: a docstring stands before other constants."""
    if instruction.opcode in dis.hasconst:
        return instruction.opname, _spelled(instruction.argval)
    return instruction.opname, instruction.argrepr if instruction.opcode in dis.hasname else instruction.arg


def _source(code: CodeType) -> str | None:
    """The source without comments and docstrings; None if it is not there, or more than one function may be meant."""
    try:
        lines, _ = inspect.findsource(code)
        found = {text for line, name, text in _functions("".join(lines)) if (line, name) == _place(code)}
    except (OSError, SyntaxError, ValueError, RecursionError):
        return None
    return found.pop() if len(found) == 1 else None


def _place(code: CodeType) -> tuple[int, str]:
    return code.co_firstlineno, code.co_name


@lru_cache(maxsize=64)
def _functions(text: str) -> list[tuple[int, str, str]]:
    """First line, name and source of all functions in a file."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Lambda):
            found.append((node.lineno, "<lambda>", ast.unparse(node)))
        elif isinstance(node, FUNCTIONS):
            line = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            found.append((line, node.name, _bare(node)))
    return found


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
            for then in instructions[at + 1 :]:
                if then.opname not in ("LOAD_ATTR", "LOAD_METHOD"):
                    break
                name.append(str(then.argval))
            yield tuple(name)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _loads(constant, around)
