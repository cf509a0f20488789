"""The command line: ``python -m funcbio``, with a subcommand for each experiment."""

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from funcbio.experiments.commands import COMMANDS
from funcbio.experiments.frame.results import versions
from funcbio.experiments.frame.settings import SettingError

VERSIONS = "funcbio {funcbio}, torch {torch}, Python {python}".format(**versions())
TIMES = "Times are those of two cores, with the default options. 'funcbio command --help' shows all options."


class Parser(argparse.ArgumentParser):
    """Parses the command line, with error messages of one line."""

    def error(self, message: str) -> NoReturn:
        """Prints one line and leaves with exit code 2."""
        self.exit(2, f"{self.prog}: error: {' '.join(message.split())}\n")


def parser() -> tuple[Parser, dict[str, Parser]]:
    """Makes the parser, and those of the subcommands by name."""
    whole = Parser(
        prog="funcbio", description="Diverse, dynamic synapses for PyTorch.", epilog=TIMES, allow_abbrev=False
    )
    whole.add_argument("--version", action="version", version=VERSIONS)
    commands = whole.add_subparsers(dest="command", metavar="command")
    parsers = {}
    for name, command in COMMANDS.items():
        takes = f" ({command.takes})" if command.takes else ""
        description = f"{command.about.capitalize()}{takes}."
        parsers[name] = commands.add_parser(
            name, help=f"{command.about}{takes}", description=description, allow_abbrev=False
        )
        command.add(parsers[name])
    return whole, parsers


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        argv: The arguments; None takes those of the process.

    Returns:
        The exit code: 0, also for the help that is shown without arguments, or 130 after an interrupt.

    Raises:
        SystemExit: After ``--help`` and ``--version`` (0), and after a bad option or a missing package (2, with one
            line on stderr).
    """
    whole, commands = parser()
    options = vars(whole.parse_args(argv))
    name = options.pop("command")
    if name is None:
        whole.print_help()
        return 0
    try:
        COMMANDS[name].run(options)
    except SettingError as error:
        commands[name].error(str(error))
    except KeyboardInterrupt:
        print(f"funcbio {name}: interrupted; {COMMANDS[name].interrupted}", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
