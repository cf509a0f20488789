"""``python -m funcbio data``: says which data sets are there, whether they are whole, and how to get the others."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from funcbio.experiments.datasets.candidates import Found
from funcbio.experiments.datasets.finding import NotFoundError, OtherDataError, find, how_to_get
from funcbio.experiments.datasets.loading import NAMES, read
from funcbio.experiments.datasets.published import PUBLISHED
from funcbio.experiments.frame.settings import SettingError
from funcbio.experiments.frame.table import Table
from funcbio.experiments.frame.terminal import console, say

DIGITS = ("1,797", "1x8x8"), "CC BY 4.0"
"""Images, shape and licence of the digits of scikit-learn."""


class Status(NamedTuple):
    """Describes how a data set is there.

    Attributes:
        state: "found", "not found" or "damaged".
        sums: "agree", or "none published" if its files have none; "" if nothing was compared.
        notes: Lines that say where it is, what is wrong, and how to get it.
    """

    state: str
    sums: str
    notes: Sequence[str]


def run(folder: str) -> None:
    """Prints a table of all data sets, and below it where each of them is or how to get it."""
    with ThreadPoolExecutor() as pool:
        statuses = dict(zip(NAMES, pool.map(partial(status, folder=Path(folder)), NAMES), strict=True))
    terminal = console()
    headings = ("data", "images", "shape", "state", "sums", "licence")
    terminal.print(Table(headings, [_row(name, found) for name, found in statuses.items()], right=("images",)), "")
    for name, found in statuses.items():
        for note in found.notes:
            say(terminal, f"{name}: {note}")


def status(name: str, folder: Path) -> Status:
    """Returns how a data set is there, with checksums of all its files compared."""
    if name == "digits":
        return _digits()
    try:
        found = find(name, folder, check=True)
        sums = _sums(name, found)
    except NotFoundError as error:
        other = [str(error)] if isinstance(error, OtherDataError) else []
        return Status("not found", "", [*other, how_to_get(name, folder)])
    except SettingError as error:
        return Status("damaged", "", [str(error), how_to_get(name, folder)])
    return Status("found", sums, [f"in {found.home}"])


def _sums(name: str, found: Found) -> str:
    """Returns "agree" for files whose checksums were compared; reads others, so that damage is seen all the same."""
    if all(file in PUBLISHED[name].sums for file in found.paths):
        return "agree"
    read(name, found)
    return "none published"


def _digits() -> Status:
    try:
        return Status("found", "", [f"in scikit-learn {metadata.version('scikit-learn')}"])
    except metadata.PackageNotFoundError:
        return Status("not found", "", ["get it with: pip install scikit-learn"])


def _row(name: str, found: Status) -> list[str]:
    if name == "digits":
        size, licence = DIGITS
    else:
        published = PUBLISHED[name]
        licence = published.licence
        size = f"{published.train:,} + {published.test:,}", "x".join(map(str, published.shape))
    return [name, *size, found.state, found.sums, licence]
