"""The subcommands: their options, and what runs them. Packages of the experiments are only loaded by what runs."""

import sys
from argparse import ArgumentParser
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from funcbio.experiments.compare.settings import Settings
from funcbio.experiments.each.settings import Settings as EachSettings
from funcbio.experiments.flatness.settings import Settings as FlatnessSettings
from funcbio.experiments.frame.options import add_options
from funcbio.experiments.frame.settings import SettingError
from funcbio.experiments.grid.settings import GridSettings
from funcbio.experiments.inversion.settings import Settings as InversionSettings
from funcbio.experiments.plasticity.settings import Settings as PlasticitySettings

EXTRAS = {"sklearn": "scikit-learn", "matplotlib": "matplotlib", "rich": "rich", "scipy": "scipy"}
"""Module and package of everything that only experiments need."""

INVERT_EXTRAS = {**EXTRAS, "skimage": "scikit-image"}
"""Those of ``invert``."""

SWEEP_EXTRAS = {
    **EXTRAS,
    **{name: name for name in ("pandas", "pyarrow", "safetensors", "tqdm")},
    **({} if sys.version_info >= (3, 11) else {"tomli": "tomli"}),
}
"""Those of ``sweep``."""


def parse_number(text: str) -> int | float | str:
    """Reads an integer or another number; anything else stays text, for the settings to refuse by name."""
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            continue
    return text


def require_extras(names: str, packages: Mapping[str, str]) -> None:
    """Raises SettingError if packages are not installed; says how to install them."""
    missing = [package for module, package in packages.items() if find_spec(module) is None]
    if missing:
        raise SettingError(f"{', '.join(missing)} not found; install with: pip install 'funcbio[{names}]'")


def add_compare(compare: ArgumentParser) -> None:
    """Adds the options of ``compare``."""
    add_options(compare, Settings, parse_number)
    search = "search both learning rates on a validation part of the training images, print the table and stop"
    compare.add_argument("--tune", action="store_true", help=f"{search} (default: off)")


def run_compare(options: dict[str, Any]) -> None:
    """Runs the comparison or the search; only now are the packages of the experiments loaded."""
    tune = options.pop("tune")
    settings = Settings(**options)
    require_extras("experiments", EXTRAS)
    from funcbio.experiments.compare import run

    if tune:
        run.tune_only(settings)
    else:
        run.compare(settings)


def add_plasticity(plasticity: ArgumentParser) -> None:
    """Adds the options of ``plasticity``."""
    add_options(plasticity, PlasticitySettings, parse_number)
    search = "search the numbers of every method on other seeds, print the table and stop"
    plasticity.add_argument("--tune", action="store_true", help=f"{search} (default: off)")


def run_plasticity(options: dict[str, Any]) -> None:
    """Runs the experiment on plasticity, or the search before it."""
    tune, settings = options.pop("tune"), PlasticitySettings(**options)
    require_extras("experiments", EXTRAS)
    from funcbio.experiments.plasticity import run

    run.run(settings, tune=tune)


def add_each(each: ArgumentParser) -> None:
    """Adds the options of ``each``."""
    add_options(each, EachSettings, parse_number)


def run_each(options: dict[str, Any]) -> None:
    """Compares single mechanisms with plain networks."""
    settings = EachSettings(**options)
    require_extras("sweep,experiments", SWEEP_EXTRAS)
    from funcbio.experiments.each import run

    run.run(settings)


def add_flatness(flatness: ArgumentParser) -> None:
    """Adds the options of ``flatness``."""
    add_options(flatness, FlatnessSettings, parse_number)


def run_flatness(options: dict[str, Any]) -> None:
    """Runs the measurement of flatness."""
    settings = FlatnessSettings(**options)
    require_extras("experiments", EXTRAS)
    from funcbio.experiments.flatness import run

    run.run(settings)


def add_grid(grid: ArgumentParser) -> None:
    """Adds the options of ``grid``."""
    add_options(grid, GridSettings, parse_number)
    grid.add_argument("--quick", action="store_true", help="only see that it works, in seconds (default: off)")
    grid.add_argument("--no-check", action="store_true", help="read files with other checksums, too (default: off)")
    figures = "only draw the figures and write the tables of a results file, beside it (default: off)"
    grid.add_argument("--draw", type=Path, metavar="FILE", help=figures)


def run_grid(options: dict[str, Any]) -> None:
    """Runs the grid, or draws what came out of one."""
    quick, check, path = options.pop("quick"), not options.pop("no_check"), options.pop("draw")
    settings = GridSettings(**options)
    require_extras("sweep,experiments", SWEEP_EXTRAS)
    from funcbio.experiments.grid import run

    if path is not None:
        run.draw(path)
    else:
        run.run(settings.quick() if quick else settings, check=check)


def add_invert(invert: ArgumentParser) -> None:
    """Adds the options of ``invert``."""
    add_options(invert, InversionSettings, parse_number)
    drawn = "only print the tables of a file of results and draw its figures, into the output directory"
    invert.add_argument("--draw", type=Path, metavar="FILE", help=f"{drawn} (default: off)")


def run_invert(options: dict[str, Any]) -> None:
    """Attacks gradients, or draws what an attack came to."""
    path = options.pop("draw")
    settings = InversionSettings(**options)
    require_extras("experiments", INVERT_EXTRAS)
    from funcbio.experiments.frame.files import prepare
    from funcbio.experiments.inversion import run

    if path is None:
        run.run(settings)
    else:
        run.draw(path, prepare(settings.output))


def add_sweep(sweep: ArgumentParser) -> None:
    """Adds the options of ``sweep``."""
    sweep.add_argument("experiment", type=Path, help="a TOML file such as docs/experiment.toml, which shows all keys")
    folder = "directory of the results; the same command goes on where it was stopped"
    default = "results and the name of the file"
    sweep.add_argument("--output", metavar="FOLDER", help=f"{folder} (default: {default})")
    sweep.add_argument("--check", action="store_true", help="check the file and stop (default: off)")


def run_sweep(options: dict[str, Any]) -> None:
    """Runs the sweep of a file."""
    require_extras("sweep,experiments", SWEEP_EXTRAS)
    from funcbio.experiments.sweep_file import run

    run.run(options["experiment"], options["output"], check=options["check"])


COMMANDS: dict[str, tuple[str, Callable[[ArgumentParser], None], Callable[[dict[str, Any]], None], str]] = {
    "compare": (
        "train plain and bio-inspired networks on handwritten digits and compare them",
        add_compare,
        run_compare,
        "nothing written",
    ),
    "each": (
        "train every mechanism alone, at its own best learning rate, and compare it with a plain network",
        add_each,
        run_each,
        "the same command goes on from what was saved",
    ),
    "plasticity": (
        "train networks on hundreds of tasks in a row, and see which still learn",
        add_plasticity,
        run_plasticity,
        "the same command goes on after the last finished method",
    ),
    "flatness": (
        "measure how sharply the loss of plain and bio-inspired networks curves",
        add_flatness,
        run_flatness,
        "the same command goes on after the last finished variant",
    ),
    "invert": (
        "reconstruct images from gradients of plain and bio-inspired networks",
        add_invert,
        run_invert,
        "the same command goes on from the parts that were done",
    ),
    "sweep": (
        "train many seeds and hyper-parameters, all described in a TOML file, as one run",
        add_sweep,
        run_sweep,
        "the same command goes on from what was saved",
    ),
    "grid": (
        "train the paper's grid of weight splitting, rejuvenation and fuzzy rates",
        add_grid,
        run_grid,
        "the same command goes on from what was saved",
    ),
}
"""Of each subcommand: what it does, what adds its options, what runs it, and how things are after an interrupt."""
