"""The subcommands: their options, and the functions that run them. Only these import what experiments need."""

import sys
from argparse import ArgumentParser
from collections.abc import Mapping
from dataclasses import fields
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from funcbio.experiments.arena.demo_settings import Settings as DemoSettings
from funcbio.experiments.arena.settings import Settings as ArenaSettings
from funcbio.experiments.compare.settings import Settings as CompareSettings
from funcbio.experiments.each.settings import Settings as EachSettings
from funcbio.experiments.flatness.settings import Settings as FlatnessSettings
from funcbio.experiments.frame.files import default_output
from funcbio.experiments.frame.only import option as only
from funcbio.experiments.frame.options import add_options
from funcbio.experiments.frame.settings import SettingError
from funcbio.experiments.grid.settings import GridSettings
from funcbio.experiments.inversion.settings import Settings as InversionSettings
from funcbio.experiments.plasticity.settings import Settings as PlasticitySettings

EXTRAS = {"sklearn": "scikit-learn", "matplotlib": "matplotlib", "rich": "rich", "scipy": "scipy"}
"""Module and package of everything that experiments need."""

INVERT_EXTRAS = {**EXTRAS, "skimage": "scikit-image"}
"""Module and package of everything that ``invert`` needs."""

SWEEP_EXTRAS = {
    **EXTRAS,
    **{name: name for name in ("pandas", "pyarrow", "safetensors", "tqdm")},
    **({} if sys.version_info >= (3, 11) else {"tomli": "tomli"}),
}
"""Module and package of everything that sweeps need."""


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
        line = f"pip install '.[{names}]' in funcbio's source"
        raise SettingError(f"{', '.join(missing)} not found; install with: {line}")


NOTHING = "nothing written"


class Command(NamedTuple):
    """Describes a subcommand.

    Attributes:
        about: The help.
        interrupted: The state of its work after an interrupt.
        function: Module below ``funcbio.experiments`` and function that run it.
        settings: The class of its settings, whose fields are options; None if settings come from a file.
        options: Its other options, which the function takes by name: flag and arguments of ``add_argument``.
        needs: The extras to install for it, and the modules and packages in them.
        takes: How long it takes with its default settings on two cores.
    """

    about: str
    interrupted: str
    function: str
    settings: Any
    options: Mapping[str, dict[str, Any]] = {}
    needs: tuple[str, Mapping[str, str]] = ("experiments", EXTRAS)
    takes: str = ""

    def add(self, parser: ArgumentParser) -> None:
        """Adds the options."""
        if self.settings:
            add_options(parser, self.settings, parse_number)
        for flag, arguments in self.options.items():
            parser.add_argument(flag, **arguments)

    def run(self, options: Mapping[str, Any]) -> None:
        """Checks the settings, then the packages, and only then loads and runs the experiment."""
        names = [item.name for item in fields(self.settings)] if self.settings else []
        settings = [self.settings(**{name: options[name] for name in names})] if self.settings else []
        require_extras(*self.needs)
        module, _, function = self.function.partition(":")
        run = getattr(import_module(f"funcbio.experiments.{module}"), function)
        run(*settings, **{name: value for name, value in options.items() if name not in names})

    def left(self, options: Mapping[str, Any]) -> str:
        """Returns the state of its work after an interrupt: without a directory of results nothing was written."""
        output = options.get("output", "") or default_output(options.get("path", Path()))
        return self.interrupted if "output" not in options or Path(output).exists() else NOTHING


def _switch(explained: str, **arguments: Any) -> dict[str, Any]:
    return {"action": "store_true", "help": f"{explained} (default: off)", **arguments}


def _drawing(explained: str) -> dict[str, Any]:
    return {"dest": "path", "type": Path, "metavar": "FILE", "help": f"only {explained} (default: off)"}


SWEEPS = "sweep,experiments", SWEEP_EXTRAS
STOP = "print the table and stop"
GOES_ON = "the same command goes on from what was saved"

TYPES = ["float32", "bfloat16", "float16", "float64"]
"""Types of weights that methods are compiled for."""

FILE = "a TOML file such as docs/experiment.toml, which shows all keys"
FOLDER = "directory of the results; the same command goes on where it was stopped"

COMMANDS = {
    "demo": Command(
        "see in a minute which networks still learn after tens of tasks in a row",
        NOTHING,
        "arena.demo:run",
        DemoSettings,
        needs=SWEEPS,
        takes="a minute",
    ),
    "arena": Command(
        "find out what keeps networks able to learn: many methods, one rule of tuning, many seeds",
        GOES_ON,
        "arena.run:run",
        ArenaSettings,
        {
            "--quick": _switch("a small one, in minutes"),
            "--finished": _switch("only show what is finished; train nothing"),
            "--list": _switch("list the methods and stop"),
            "--only": only("methods, tasks or optimizers"),
        },
        SWEEPS,
        takes="a night; --quick: minutes",
    ),
    "compare": Command(
        "train plain and bio-inspired networks on handwritten digits and compare them",
        NOTHING,
        "compare.run:run",
        CompareSettings,
        {"--tune": _switch("search both learning rates on a validation part of the training images, " + STOP)},
        takes="half a minute",
    ),
    "each": Command(
        "train every mechanism alone, at its own best learning rate, and compare it with a plain network",
        GOES_ON,
        "each.run:run",
        EachSettings,
        {"--only": only("mechanisms or optimizers")},
        SWEEPS,
        takes="a few minutes",
    ),
    "plasticity": Command(
        "train networks on hundreds of tasks in a row, and see which still learn",
        "the same command goes on after the last finished method",
        "plasticity.run:run",
        PlasticitySettings,
        {
            "--tune": _switch("search the numbers of every method on other seeds, " + STOP),
            "--only": only("methods, tasks or optimizers"),
        },
        takes="half an hour",
    ),
    "flatness": Command(
        "measure how sharply the loss of plain and bio-inspired networks curves",
        "the same command goes on after the last finished variant",
        "flatness.run:run",
        FlatnessSettings,
        takes="a few minutes",
    ),
    "invert": Command(
        "reconstruct images from gradients of plain and bio-inspired networks",
        "the same command goes on from the parts that were done",
        "inversion.run:main",
        InversionSettings,
        {"--draw": _drawing("print the tables of a file of results and draw its figures, into the output directory")},
        needs=("experiments", INVERT_EXTRAS),
        takes="ten minutes",
    ),
    "sweep": Command(
        "train many seeds and hyper-parameters, all described in a TOML file, as one run",
        GOES_ON,
        "sweep_file.run:run",
        None,
        {
            "path": {"metavar": "experiment", "type": Path, "help": FILE},
            "--output": {"metavar": "FOLDER", "help": f"{FOLDER} (default: results and the name of the file)"},
            "--check": _switch("check the file and stop"),
        },
        SWEEPS,
        takes="as long as its file says",
    ),
    "grid": Command(
        "train the paper's grid of weight splitting, rejuvenation and fuzzy rates",
        GOES_ON,
        "grid.run:main",
        GridSettings,
        {
            "--quick": _switch("only see that it works, in seconds"),
            "--only": only("cells or protocols"),
            "--no-check": _switch("read files with other checksums, too", action="store_false", dest="check"),
            "--draw": _drawing("draw the figures and write the tables of a results file, beside it"),
        },
        SWEEPS,
        takes="nine minutes; --quick: seconds",
    ),
    "data": Command(
        "say which data sets are found, and how to get the others",
        NOTHING,
        "datasets.listing:run",
        None,
        {"--folder": {"default": "data", "help": "where the image files are (default: %(default)s)"}},
        ("experiments", {"rich": "rich", "numpy": "numpy"}),
        takes="seconds",
    ),
    "compile": Command(
        "make compiled methods ahead, so that no later process waits for them; or list or remove them",
        "the programs that were made are kept",
        "programs.run:run",
        None,
        {
            "methods": {"nargs": "*", "metavar": "method", "help": "names of methods, or bio_step (default: all)"},
            "--dtype": {
                "nargs": "+",
                "choices": TYPES,
                "metavar": "TYPE",
                "default": TYPES[:2],
                "help": f"types of weights, among {', '.join(TYPES)} (default: {' '.join(TYPES[:2])})",
            },
            "--list": _switch("list the programs that are kept and stop"),
            "--clear": _switch("remove the programs that are kept and stop"),
        },
        ("experiments", {"rich": "rich"}),
        takes="ten minutes, once; --list and --clear: seconds",
    ),
}
