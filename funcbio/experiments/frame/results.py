"""Results of finished runs, one file each: an experiment that was stopped goes on with the next run."""

import platform
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

import funcbio
from funcbio.experiments.frame.files import write_sealed
from funcbio.experiments.frame.settings import SettingError
from funcbio.files import FileError
from funcbio.files._seal import read_json

FREE = ("threads", "output")
"""Settings that may change when an experiment goes on: they change no number but by rounding."""


def versions() -> dict[str, str]:
    """Returns the versions of the packages that compute the numbers."""
    return {"python": platform.python_version(), "torch": torch.__version__, "funcbio": funcbio.__version__}


def numbers_of(settings: Any) -> dict[str, Any]:
    """Returns the settings that determine the numbers."""
    free = (*FREE, *settings.selects)
    return {name: value for name, value in asdict(settings).items() if name not in free}


def about(settings: Any) -> dict[str, Any]:
    """Returns the head of a file of results: the settings that determine the numbers, and the versions."""
    return {"settings": numbers_of(settings), "versions": versions()}


def load_or_run(folder: Path, name: str, settings: Any, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Returns the result of a run: from its file if there is one, else from ``make``, which returns what JSON can hold.

    Raises:
        SettingError: If the file was written with other settings.
        FileError: If it is damaged; the message names it.
    """
    path, numbers = run_path(folder, name), numbers_of(settings)
    if path.exists():
        content = read_run(path)
        if content["settings"] != numbers:
            should = "a new folder, or that of the same experiment"
            raise SettingError(f"output should be {should}; found one with other settings: {str(folder)!r}")
        return content["result"]
    result = make()
    path.parent.mkdir(exist_ok=True)
    write_sealed(path, about(settings) | {"result": result})
    return result


def run_path(folder: Path, name: str) -> Path:
    """Returns the file of a run."""
    return folder / "runs" / f"{name}.json"


def read_run(path: Path) -> dict[str, Any]:
    """Reads the file of a run; raises FileError if it is damaged."""
    content = read_json(path)
    missing = [name for name in ("settings", "result") if not isinstance(content.get(name), dict)]
    if missing:
        raise FileError(f"{path} should hold dictionaries of settings and result; found no {' and no '.join(missing)}")
    return content
