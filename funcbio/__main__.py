"""The command line: ``python -m funcbio compare``."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields
from importlib.util import find_spec
from typing import NoReturn

from funcbio.experiments.settings import SettingError, Settings

EXTRAS = {"sklearn": "scikit-learn", "matplotlib": "matplotlib", "rich": "rich", "scipy": "scipy"}
"""Module and package of everything that only experiments need."""


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


def parser() -> tuple[Parser, Parser]:
    """Makes the parser, and the one of the subcommand ``compare``, from the table of settings."""
    whole = Parser(prog="funcbio", description="Diverse, dynamic synapses for PyTorch.", allow_abbrev=False)
    commands = whole.add_subparsers(dest="command", required=True, metavar="command")
    about = "train plain and bio-inspired networks on handwritten digits and compare them"
    compare = commands.add_parser("compare", help=about, description=f"{about.capitalize()}.", allow_abbrev=False)
    for item in fields(Settings):
        read = str if isinstance(item.default, str) else parse_number
        explained = f"{item.metadata['help']} (default: %(default)s)"
        option = f"--{item.name.replace('_', '-')}"
        compare.add_argument(option, type=read, default=item.default, metavar=item.name.upper(), help=explained)
    search = "search both learning rates on a validation part of the training images, print the table and stop"
    compare.add_argument("--tune", action="store_true", help=f"{search} (default: off)")
    return whole, compare


def missing_extras() -> list[str]:
    """Names the packages of the experiments that are not installed."""
    return [package for module, package in EXTRAS.items() if find_spec(module) is None]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        argv: The arguments; None takes those of the process.

    Returns:
        The exit code: 0, or 130 after an interrupt.

    Raises:
        SystemExit: After ``--help`` (0) and after a bad option or a missing package (2, with one line on stderr).
    """
    whole, compare = parser()
    options = vars(whole.parse_args(argv))
    tune = options.pop("tune")
    del options["command"]
    try:
        settings = Settings(**options)
        if missing := missing_extras():
            compare.error(f"{', '.join(missing)} not found; install with: pip install 'funcbio[experiments]'")
        run(settings, tune=tune)
    except SettingError as error:
        compare.error(str(error))
    except KeyboardInterrupt:
        print("funcbio compare: interrupted; nothing written", file=sys.stderr)
        return 130
    return 0


def run(settings: Settings, *, tune: bool) -> None:
    """Runs the comparison or the search; only now are the packages of the experiments loaded."""
    from funcbio.experiments import compare

    if tune:
        compare.tune_only(settings)
    else:
        compare.compare(settings)


if __name__ == "__main__":
    sys.exit(main())
