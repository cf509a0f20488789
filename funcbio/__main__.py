"""The command line: ``python -m funcbio compare`` and ``python -m funcbio sweep``."""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

from funcbio.experiments.inversion.settings import Settings as InversionSettings
from funcbio.experiments.options import add_options as add_fields
from funcbio.experiments.settings import SettingError, Settings

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


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Prints one line and leaves with exit code 2."""
        self.exit(2, f"{self.prog}: error: {' '.join(message.split())}\n")


def parse_number(text: str) -> int | float | str:
    """Reads an integer or another number; anything else stays text, for the settings to refuse by name."""
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            continue
    return text


def parser() -> tuple[Parser, dict[str, Parser]]:
    """Makes the parser, and those of the subcommands by name."""
    whole = Parser(prog="funcbio", description="Diverse, dynamic synapses for PyTorch.", allow_abbrev=False)
    commands = whole.add_subparsers(dest="command", required=True, metavar="command")
    found = {}
    for name, (about, add_options, _, _) in COMMANDS.items():
        found[name] = commands.add_parser(name, help=about, description=f"{about.capitalize()}.", allow_abbrev=False)
        add_options(found[name])
    return whole, found


def add_compare(compare: Parser) -> None:
    """Adds the options of ``compare``, from the table of settings."""
    for item in fields(Settings):
        read = str if isinstance(item.default, str) else parse_number
        explained = f"{item.metadata['help']} (default: %(default)s)"
        option = f"--{item.name.replace('_', '-')}"
        compare.add_argument(option, type=read, default=item.default, metavar=item.name.upper(), help=explained)
    search = "search both learning rates on a validation part of the training images, print the table and stop"
    compare.add_argument("--tune", action="store_true", help=f"{search} (default: off)")


def add_sweep(sweep: Parser) -> None:
    """Adds the options of ``sweep``."""
    sweep.add_argument("experiment", type=Path, help="a TOML file such as docs/experiment.toml, which shows all keys")
    folder = "directory of the results; the same command goes on where it was stopped"
    default = "results and the name of the file"
    sweep.add_argument("--output", metavar="FOLDER", help=f"{folder} (default: {default})")
    sweep.add_argument("--check", action="store_true", help="check the file and stop (default: off)")


def add_invert(invert: Parser) -> None:
    """Adds the options of ``invert``."""
    add_fields(invert, InversionSettings, parse_number)
    drawn = "only print the tables of a file of results and draw its figures, into the output directory"
    invert.add_argument("--draw", type=Path, metavar="FILE", help=f"{drawn} (default: off)")


def run_compare(options: dict[str, Any]) -> None:
    """Runs the comparison or the search; only now are the packages of the experiments loaded."""
    tune = options.pop("tune")
    settings = Settings(**options)
    require_extras("experiments", EXTRAS)
    from funcbio.experiments import compare

    if tune:
        compare.tune_only(settings)
    else:
        compare.compare(settings)


def run_sweep(options: dict[str, Any]) -> None:
    """Runs the sweep of a file."""
    require_extras("sweep,experiments", SWEEP_EXTRAS)
    from funcbio.experiments import sweep_command

    sweep_command.run(options["experiment"], options["output"], check=options["check"])


def run_invert(options: dict[str, Any]) -> None:
    """Attacks gradients, or draws what an attack came to."""
    path = options.pop("draw")
    settings = InversionSettings(**options)
    require_extras("experiments", INVERT_EXTRAS)
    from funcbio.experiments.files import prepare
    from funcbio.experiments.inversion import command

    if path is None:
        command.run(settings)
    else:
        command.draw(path, prepare(settings.output))


def require_extras(names: str, packages: Mapping[str, str]) -> None:
    """Raises SettingError if packages are not installed; says how to install them."""
    missing = [package for module, package in packages.items() if find_spec(module) is None]
    if missing:
        raise SettingError(f"{', '.join(missing)} not found; install with: pip install 'funcbio[{names}]'")


COMMANDS: dict[str, tuple[str, Callable[[Parser], None], Callable[[dict[str, Any]], None], str]] = {
    "compare": (
        "train plain and bio-inspired networks on handwritten digits and compare them",
        add_compare,
        run_compare,
        "nothing written",
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
}
"""Of each subcommand: what it does, what adds its options, what runs it, and how things are after an interrupt."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        argv: The arguments; None takes those of the process.

    Returns:
        The exit code: 0, or 130 after an interrupt.

    Raises:
        SystemExit: After ``--help`` (0) and after a bad option or a missing package (2, with one line on stderr).
    """
    whole, commands = parser()
    options = vars(whole.parse_args(argv))
    name = options.pop("command")
    _, _, run, left = COMMANDS[name]
    try:
        run(options)
    except SettingError as error:
        commands[name].error(str(error))
    except KeyboardInterrupt:
        print(f"funcbio {name}: interrupted; {left}", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
