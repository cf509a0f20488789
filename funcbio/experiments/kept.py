"""Runs that are done, one file each: a run that was stopped goes on with the next."""

import json
import platform
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

import funcbio
from funcbio.experiments.files import write_json
from funcbio.experiments.settings import SettingError

FREE = ("threads", "output")
"""Settings that may change when an experiment goes on: they change no number but by rounding."""


def versions() -> dict[str, str]:
    """Of what computed the numbers."""
    return {"python": platform.python_version(), "torch": torch.__version__, "funcbio": funcbio.__version__}


def numbers_of(settings: Any) -> dict[str, Any]:
    """The settings that determine the numbers."""
    return {name: value for name, value in asdict(settings).items() if name not in FREE}


def kept(folder: Path, name: str, settings: Any, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Returns what a run came to: from its file if there is one, else by running it.

    Args:
        folder: The folder of the results.
        name: Name of the run.
        settings: A dataclass.
        make: Runs it; the result must fit into JSON.

    Raises:
        SettingError: If the file was written with other settings.
    """
    path, mine = folder / "runs" / f"{name}.json", numbers_of(settings)
    if path.exists():
        content = json.loads(path.read_text())
        if content["settings"] != mine:
            should = "a new folder, or that of the same experiment"
            raise SettingError(f"output should be {should}; found one with other settings: {str(folder)!r}")
        return content["result"]
    path.parent.mkdir(exist_ok=True)
    result = make()
    write_json(path, {"settings": mine, "versions": versions(), "result": result})
    return result
