"""The frame of a command: what every experiment does before and after its own work."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from rich.console import Console

from funcbio.experiments.frame.files import kept, write_json
from funcbio.experiments.frame.results import load_or_run
from funcbio.experiments.frame.table import Table
from funcbio.experiments.frame.terminal import console, say
from funcbio.files._cleanup import cleaned_up

Data = TypeVar("Data")


@dataclass(frozen=True)
class Output:
    """Describes the folder of a run of an experiment, and the terminal that it reports on."""

    settings: Any
    folder: Path
    terminal: Console

    def load_or_run(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Returns the result of a part from its file if there is one, else runs the part."""
        return load_or_run(self.folder, name, self.settings, make)

    def write(self, name: str, content: dict[str, Any], *, indent: int | None = 1) -> None:
        """Writes a file of results."""
        write_json(self.folder / name, content, indent=indent)

    def show(self, *tables: Table) -> None:
        """Prints tables, each with an empty line below it."""
        for table in tables:
            self.terminal.print(table, "")

    def say(self, text: str) -> None:
        """Prints a line."""
        say(self.terminal, text)

    def end(self) -> None:
        """Prints where the results are."""
        self.say(f"Written: {self.folder}")


@cleaned_up
def begin(stack: ExitStack, settings: Any, load: Callable[[Any], Data]) -> Iterator[tuple[Data, Output]]:
    """Sets the number of threads, loads the data, and keeps a directory for the results once the data are right.

    Raises:
        SettingError: If a setting does not fit the data or the output cannot be written.
    """
    set_threads(settings)
    data = load(settings)
    yield data, Output(settings, stack.enter_context(kept(settings.output)), console())


def set_threads(settings: Any) -> None:
    """Sets the number of torch's threads, unless the settings leave it to torch."""
    if settings.threads:
        torch.set_num_threads(settings.threads)
