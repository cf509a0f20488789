"""Checks of a file's content: allowed keys, values of the right kind, and functions by their names."""

import inspect
import os
import sys
import traceback
from collections.abc import Callable, Collection, Iterable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import funcbio
from funcbio._checks import perhaps
from funcbio.experiments.frame.settings import SettingError


def require(name: str, value: object, should: str, holds: bool) -> None:
    """Raises SettingError if a value is not what it should be."""
    if not holds:
        raise SettingError(f"{name} should be {should}; found {value!r}")


def table(name: str, value: Any) -> dict[str, Any]:
    """Returns a table of the file; raises SettingError if the value is none."""
    require(name, value, f"a table, [{name}]", isinstance(value, dict))
    return value


def require_keys(where: str, keys: Iterable[str], allowed: Collection[str], above: Collection[str] = ()) -> None:
    """Raises SettingError if a key is not allowed; the message names the nearest one that is.

    ``above`` are keys of the whole file, which easily end up in the table that stands above them.
    """
    for key in keys:
        if key in allowed:
            continue
        name, place = (f"{where}.{key}", f"[{where}]") if where else (key, "the file")
        if key in above:
            raise SettingError(f"{key} should stand above the first table; found it in [{where}]")
        raise SettingError(f"{name} should be a key of {place}{perhaps(key, allowed)}; found an unknown key")


def require_given(where: str, keys: Collection[str], needed: Iterable[str]) -> None:
    """Raises SettingError if a key that is needed is missing."""
    for key in needed:
        if key not in keys:
            raise SettingError(f"{where}.{key} should be given; found nothing".removeprefix("."))


def require_arguments(where: str, function: Callable[..., Any], keys: Collection[str]) -> None:
    """Raises SettingError if keys of a table are not the arguments that a function takes."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # Some functions written in C have no signature.
        return
    if not any(item.kind is item.VAR_KEYWORD for item in parameters):
        require_keys(where, keys, [item.name for item in parameters])
    single = [item for item in parameters if item.kind not in (item.VAR_KEYWORD, item.VAR_POSITIONAL)]
    require_given(where, keys, [item.name for item in single if item.default is item.empty])


def named(name: str, text: object, home: ModuleType | None = None) -> Any:
    """Finds the function that a text names; the current directory is importable.

    Args:
        name: The key of the file, for messages.
        text: "module:function", or the name of a function in ``home``.
        home: A module.

    Returns:
        The function.

    Raises:
        SettingError: If there is no such function.
    """
    should = f"a function of {home.__name__}, or 'module:function'" if home else "'module:function'"
    require(name, text, should, isinstance(text, str) and (home is not None or ":" in text))
    place, _, attribute = f"{text}".rpartition(":")
    module = _imported(name, f"{text}", place) if place or home is None else home
    function: Any = module
    for part in attribute.split("."):
        function = getattr(function, part, None)
    if not callable(function):
        should = should if module is home else "a function there"
        raise SettingError(f"{name} should be {should}{perhaps(attribute, _functions(module))}; found {text!r}")
    return function


def _imported(name: str, text: str, place: str) -> ModuleType:
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return import_module(place)
    except Exception as error:
        reason = described(error)
        raise SettingError(f"{name} should be in a module that can be imported; found {text!r}: {reason}") from error


def _functions(module: ModuleType) -> list[str]:
    return [name for name, item in vars(module).items() if callable(item) and not name.startswith("_")]


def described(error: Exception) -> str:
    """Describes in one line an error, and its place in the user's own code."""
    lines = f"{error}".strip().splitlines() or [""]
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _foreign(frame.filename)]
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {lines[0]}{place}"


def _foreign(filename: str) -> bool:
    path = Path(filename)
    roots = _root(funcbio), Path(os.__file__).parent
    installed = "site-packages" in path.parts or any(path.is_relative_to(root) for root in roots)
    return not filename.startswith("<") and not installed


def _root(module: ModuleType) -> Path:
    return Path(f"{module.__file__}").parent
