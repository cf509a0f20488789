"""``python -m funcbio sweep``: checks a file with one step of training, trains it, shows and writes the results."""

import tempfile
import warnings
from pathlib import Path
from typing import Any

from torch import Tensor

import funcbio
from funcbio._checks import is_count
from funcbio.experiments.frame.files import default_output, kept
from funcbio.experiments.frame.intervals import counted
from funcbio.experiments.frame.settings import SettingError, ours
from funcbio.experiments.frame.terminal import console, say
from funcbio.experiments.sweep_file import figures, tables
from funcbio.experiments.sweep_file.named import described
from funcbio.experiments.sweep_file.settings import Experiment, parse, read
from funcbio.files._aside import write_aside
from funcbio.sweeps import _ranks

COPY = "experiment.toml"
"""Name of the copy of the file in the folder of the results."""

HARMLESS = ("chunk", "device", "save_seconds")
"""Keys of [training] that may change when a sweep goes on: they change no number but by rounding."""


def run(path: Path, output: str | None, *, check: bool) -> None:
    """Checks a file, and trains the sweep that it describes unless ``check`` is True.

    Results go to ``output``, or to a folder with the name of the file in ``results``.

    Raises:
        SettingError: If something is not as it should be; before any training.
    """
    experiment = read(path)
    rehearsed = rehearse(experiment)
    if check:
        _say_checked(path, experiment, rehearsed)
        return
    with kept(output or default_output(path)) as folder:
        keep(experiment, folder)
        result = _sweep(experiment.arguments | {"output": folder, "progress": True}, whole=True)
        if result is not None:
            _finish(result, experiment, folder)


def rehearse(experiment: Experiment) -> funcbio.SweepResult | None:
    """Trains one step of one seed and makes its tables, so that errors appear now and not hours later."""
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")  # The sweep itself shows them.
        result = _sweep(_shortened(experiment.arguments), whole=False)
        if result is not None:
            try:
                tables.write_tables(result, experiment.compare, Path(folder))
            except (ValueError, TypeError) as error:
                raise SettingError(f"{error}" if ours(error) else f"compare: found {described(error)}") from error
    return result


def _shortened(arguments: dict[str, Any]) -> dict[str, Any]:
    """Shortens the arguments to one seed, step and batch; wrong values stay, for the sweep to refuse."""
    seeds, test, size = arguments["seeds"], arguments.get("test"), arguments.get("batch_size", 64)
    short: dict[str, Any] = {"seeds": 1 if isinstance(seeds, int) else seeds[:1], "compile": False, "progress": False}
    short |= {name: 1 for name in ("steps", "record_every") if is_count(arguments.get(name, 1))}
    if (
        is_count(size)
        and isinstance(test, tuple | list)
        and all(isinstance(part, Tensor) and part.ndim for part in test)
    ):
        short["test"] = [part[:size] for part in test] if len({part.shape[:1] for part in test}) == 1 else test
    return arguments | short


def keep(experiment: Experiment, folder: Path) -> None:
    """Keeps a copy of the file with its results, and refuses the folder of another experiment."""
    path = folder / COPY
    if path.exists():
        before = _flat(parse(path.read_bytes(), path))
        now = _flat(experiment.content)
        for name in sorted(before.keys() | now.keys()):
            old, new = before.get(name, "nothing"), now.get(name, "nothing")
            if repr(old) != repr(new):  # Also of nan, which does not equal itself.
                raise SettingError(
                    "output should be a new folder, or that of the same experiment; "
                    f"found one with {name} = {old!r} instead of {new!r}: {str(folder)!r}"
                )
    if _ranks.rank() == 0:
        write_aside(path, lambda file: file.write(experiment.text))


def _sweep(arguments: dict[str, Any], *, whole: bool) -> funcbio.SweepResult | None:
    try:
        return funcbio.sweep(**arguments)
    except Exception as error:
        if ours(error):
            raise SettingError(f"{error}") from error
        if whole:  # The rehearsal did not raise it, so the user needs the whole traceback.
            raise
        should = "model, loss, metrics and optimizer should fit the data and one another"
        raise SettingError(f"{should}; found {described(error)}") from error


def _finish(result: funcbio.SweepResult, experiment: Experiment, folder: Path) -> None:
    terminal = console()
    for metric in result.metrics:
        terminal.print(tables.summary_table(result, metric), "")
    if experiment.compare is not None:
        terminal.print(tables.comparison_table(result, **experiment.compare), "")
    tables.write_tables(result, experiment.compare, folder)
    result.save_parameters(folder / "parameters")
    figures.write_figures(result, folder)
    say(terminal, "; ".join(_took(result, experiment)))
    say(terminal, f"Written: {folder}")


def _took(result: funcbio.SweepResult, experiment: Experiment) -> list[str]:
    """Returns the amount of training, and the time it took."""
    parts = [f"{counted(result.members, 'member')} trained"]
    if result.member_steps:
        parts.append(f"{1e6 * result.seconds / result.member_steps:.0f} µs for a step of one member")
    if experiment.arguments.get("compile") and result.compile_seconds:
        parts.append(f"{result.compile_seconds:.1f} s for compiling and first steps")
    return [*parts, *result.compiled]


def _say_checked(path: Path, experiment: Experiment, rehearsed: funcbio.SweepResult | None) -> None:
    if rehearsed is not None:
        seeds = experiment.arguments["seeds"]
        each = seeds if isinstance(seeds, int) else len(seeds)
        members, steps = rehearsed.members * each, experiment.arguments["steps"]
        say(console(), f"{path} is right: {counted(members, 'member')} would train {counted(steps, 'step')}")


def _flat(content: dict[str, Any]) -> dict[str, Any]:
    """Returns the settings that determine the numbers, by dotted name."""
    flat = {}
    for section, value in content.items():
        if section != "compare":
            flat |= {f"{section}.{key}": v for key, v in value.items()} if isinstance(value, dict) else {section: value}
    return {name: value for name, value in flat.items() if name not in [f"training.{key}" for key in HARMLESS]}
