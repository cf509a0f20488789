"""Files that are always whole: written aside, then renamed into place."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def write_aside(path: str | os.PathLike[str], write: Callable[[BinaryIO], object]) -> None:
    """Writes a whole file or none: what was there before stays until the new one is complete and on disk.

    Args:
        path: The file.
        write: Writes the content into an open binary file.
    """
    path = Path(path)
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with aside.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
