"""Reads a TOML file into the arguments of ``funcbio.sweep``; ``docs/experiment.toml`` shows all that it may hold."""

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from funcbio import BioConfig, ConfigError
from funcbio._checks import is_count
from funcbio.experiments.frame.settings import SettingError
from funcbio.experiments.sweep_file import parts
from funcbio.experiments.sweep_file.named import named, require, require_given, require_keys, table

SECTIONS = ("model", "data", "training", "seeds", "synapses", "config", "mechanisms", "grid", "compare")
COMPARE = ("metric", "by", "baseline")
OPTIONS = (
    "steps",
    "batch_size",
    "lr",
    "share",
    "record_every",
    "compile",
    "chunk",
    "device",
    "save_seconds",
    "newborn",
)
"""Keys of [training] that are arguments of ``sweep`` as they are."""

METRICS = ("metrics", "train_metrics")

TRAINING = ("loss", *METRICS, "optimizer", "options", "epochs", *OPTIONS)


def _device(value: Any) -> bool:
    try:
        return isinstance(value, str) and torch.empty(0, device=value) is not None
    except (RuntimeError, AssertionError):  # The latter of a torch without CUDA.
        return False


CHECKS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "epochs": ("an integer >= 1", is_count),
    "batch_size": ("an integer >= 1", is_count),
    "share": ("a list of names", lambda value: isinstance(value, list)),
    "compile": ('true, false or "auto"', lambda value: isinstance(value, bool) or value == "auto"),
    "device": ("a device of torch that is there, such as 'cpu' or 'cuda:0'", _device),
    "save_seconds": ("a number > 0", lambda v: isinstance(v, int | float) and v is not True and 0 < v < math.inf),
}
"""Checks of values that ``sweep`` does not check itself, or that are needed before it runs."""


class Experiment(NamedTuple):
    """Holds the arguments of ``sweep`` and ``SweepResult.compare``, the tables and keys of the file, and its bytes."""

    arguments: dict[str, Any]
    compare: dict[str, Any] | None
    content: dict[str, Any]
    text: bytes


def read(path: Path) -> Experiment:
    """Reads a file and checks everything that can be checked without the network.

    Raises:
        SettingError: If there is no such file, or something in it is not as it should be.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise SettingError(f"experiment should be a TOML file; found {str(path)!r} ({error.strerror})") from None
    content = parse(text, path)
    require_keys("", content, SECTIONS)
    require_given("", content, ("model", "data", "training", "seeds"))
    compare = None if "compare" not in content else _section(content, "compare", COMPARE)
    if compare is not None:
        require_given("compare", compare, COMPARE)
    return Experiment(_arguments(content), compare, content, text)


def parse(text: bytes, path: Path) -> dict[str, Any]:
    """Parses TOML; raises SettingError with the line if it is none."""
    toml = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        return toml.loads(text.decode())
    except ValueError as error:  # Also of text that is not UTF-8.
        raise SettingError(f"{path} should be a TOML file; found: {error}") from None


def _arguments(content: Mapping[str, Any]) -> dict[str, Any]:
    model, source = _section(content, "model"), _section(content, "data")
    training = _section(content, "training", TRAINING)
    grid = content.get("grid", {})
    require("grid", grid, "a table, [grid]", isinstance(grid, dict) or _tables(grid))
    grids = [parts.with_functions(part, "grid") for part in (grid if isinstance(grid, list) else [grid])]
    config = parts.with_functions(_section(content, "config"), "config")
    require("seeds", content["seeds"], "an integer >= 1, or a list of different integers", _seeds(content["seeds"]))
    arguments = {"seeds": content["seeds"], "config": _config(config), "model": parts.model(model)}
    arguments |= {"mechanisms": parts.mechanisms(content.get("mechanisms", [])), **parts.data(source)}
    arguments |= {"grid": grids if isinstance(grid, list) else grids[0]}
    arguments |= {"synapses": content["synapses"]} if "synapses" in content else {}
    return arguments | _training(training, arguments)


def _config(values: Mapping[str, Any]) -> BioConfig:
    try:
        return BioConfig(**values)
    except ConfigError as error:
        raise SettingError(f"config.{error}") from error


def _training(section: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    require_given("training", section, ("loss",))
    for key, (should, check) in CHECKS.items():
        if key in section:
            require(f"training.{key}", section[key], should, check(section[key]))
    arguments = {key: section[key] for key in OPTIONS if key in section} | {"steps": _steps(section, others["data"])}
    arguments["loss"] = named("training.loss", section["loss"], F)
    arguments |= {key: parts.metrics(key, section.get(key, [])) for key in METRICS}
    measured = others.get("test") is not None or not arguments["metrics"]
    require("training.metrics", section.get("metrics"), "left out without test data", measured)
    options = table("training.options", section.get("options", {}))
    if options or "optimizer" in section:
        require_given("training", section, ("optimizer",))
        arguments["optimizer"] = parts.optimizer(section["optimizer"], options)
    return arguments


def _steps(section: Mapping[str, Any], data: Any) -> Any:
    """Returns the steps, given themselves or as epochs."""
    if ("steps" in section) == ("epochs" in section):
        raise SettingError(f"training should have one of the keys steps and epochs; found {', '.join(section)}")
    if "steps" in section:
        return section["steps"]
    should = "left out, and steps given, where data is a function that makes batches"
    require("training.epochs", section["epochs"], should, not callable(data))
    require_given("training", section, ("batch_size",))
    if not isinstance(data, Sequence) or not data or not isinstance(data[0], Tensor) or data[0].ndim == 0:
        return 1  # The sweep refuses such data, saying what they should be.
    count, size = len(data[0]), section["batch_size"]
    require("training.batch_size", size, f"at most {count}, the number of examples", size <= count)
    return section["epochs"] * (count // size)


def _section(content: Mapping[str, Any], name: str, allowed: Sequence[str] = ()) -> dict[str, Any]:
    section = table(name, content.get(name, {}))
    if allowed:
        require_keys(name, section, allowed, SECTIONS)
    return section


def _tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(part, dict) for part in value)


def _seeds(value: Any) -> bool:
    if not isinstance(value, list):
        return is_count(value)
    numbers = all(isinstance(seed, int) and not isinstance(seed, bool) and abs(seed) < 2**63 for seed in value)
    return numbers and 0 < len(value) == len(set(value))
