"""The command line: ``python -m funcbio``, with a subcommand for each experiment."""

import argparse
import re
import sys
from collections.abc import Sequence
from typing import NoReturn

from funcbio.experiments.commands import COMMANDS
from funcbio.experiments.frame.results import versions
from funcbio.experiments.frame.settings import ours

VERSIONS = "funcbio {funcbio}, torch {torch}, Python {python}".format(**versions())
TIMES = "Times are those of two cores, with the default options. 'funcbio command --help' shows all options."


class Parser(argparse.ArgumentParser):
    """Parses the command line, with error messages of one line."""

    def error(self, message: str) -> NoReturn:
        """Prints one line and leaves with exit code 2."""
        self.exit(2, f"{self.prog}: error: {' '.join(self._as_typed(message).split())}\n")

    def _as_typed(self, message: str) -> str:
        """Returns a message that names a setting as it is typed: ``lr_plain should be ...`` is of ``--lr-plain``."""
        name, should, rest = message.partition(" should ")
        flag = f"--{name.replace('_', '-')}"
        return f"{flag}{should}{rest}" if flag in re.findall(r"--[\w-]+", self.format_usage()) else message


def parser() -> tuple[Parser, dict[str, Parser]]:
    """Makes the parser, and those of the subcommands by name."""
    whole = Parser(
        prog="funcbio", description="Diverse, dynamic synapses for PyTorch.", epilog=TIMES, allow_abbrev=False
    )
    whole.add_argument("--version", action="version", version=VERSIONS)
    commands = whole.add_subparsers(dest="command", metavar="command")
    parsers = {}
    for name, command in COMMANDS.items():
        about = f"{command.about} ({command.takes})"
        description = f"{about[0].upper()}{about[1:]}."
        parsers[name] = commands.add_parser(name, help=about, description=description, allow_abbrev=False)
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
    except ValueError as error:
        if not ours(error):
            raise
        commands[name].error(f"{error}")
    except KeyboardInterrupt:
        print(f"funcbio {name}: interrupted; {COMMANDS[name].left(options)}", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
