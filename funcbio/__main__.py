"""The command line: ``python -m funcbio``, with a subcommand for each experiment."""

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from funcbio.experiments.commands import COMMANDS
from funcbio.experiments.frame.settings import SettingError


class Parser(argparse.ArgumentParser):
    """Parses the command line, with error messages of one line."""

    def error(self, message: str) -> NoReturn:
        """Prints one line and leaves with exit code 2."""
        self.exit(2, f"{self.prog}: error: {' '.join(message.split())}\n")


def parser() -> tuple[Parser, dict[str, Parser]]:
    """Makes the parser, and those of the subcommands by name."""
    whole = Parser(prog="funcbio", description="Diverse, dynamic synapses for PyTorch.", allow_abbrev=False)
    commands = whole.add_subparsers(dest="command", required=True, metavar="command")
    parsers = {}
    for name, command in COMMANDS.items():
        description = f"{command.about.capitalize()}."
        parsers[name] = commands.add_parser(name, help=command.about, description=description, allow_abbrev=False)
        command.add(parsers[name])
    return whole, parsers


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
