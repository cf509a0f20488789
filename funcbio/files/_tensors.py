"""Files of tensors and plain values: as ``torch.save`` writes them, sealed, and looked through before they are read."""

import os
import re
import stat
from pathlib import Path
from typing import Any, BinaryIO

import torch

from funcbio.files._archive import look_through
from funcbio.files._claims import check_claims
from funcbio.files._error import FileError
from funcbio.files._seal import seal_archive


def write_tensors(content: dict[str, Any], file: BinaryIO) -> None:
    """Writes a dictionary of tensors and plain values into an open file, with a checksum of every byte."""
    torch.save(content, file)
    seal_archive(file)


def read_tensors(path: str | os.PathLike[str], what: str = "a whole file of save_checkpoint") -> dict[str, Any]:
    """Reads a dictionary of tensors and plain values, onto the CPU and without running code.

    All of the file is looked through before any of it is kept, so a damaged one takes no memory.

    Args:
        path: The file.
        what: What it should be, for the message.

    Raises:
        FileError: If it is something else, or damaged; the message names it.
        OSError: If it is not there, or cannot be read.
    """
    should = f"{Path(path)} should be {what}"
    if not stat.S_ISREG(os.stat(path).st_mode):  # To open others may wait forever.
        raise FileError(f"{should}; found {'a folder' if os.path.isdir(path) else 'a device'}")
    with open(path, "rb") as file:
        try:
            check_claims(*look_through(file))
            file.seek(0)
            content = torch.load(file, map_location="cpu", weights_only=True)
        except (MemoryError, OSError, Warning):
            raise
        except Exception as error:  # Torch has many for a file that is not what it should be.
            raise FileError(f"{should}; found {_reason(error)}") from None
    if type(content) is not dict or not all(isinstance(name, str) for name in content):
        raise FileError(f"{should}; found one of torch.save that holds {type(content).__name__}")
    return content


def _reason(error: Exception) -> str:
    """The sentence of an error that says what is wrong; torch puts it among others, on what one might do."""
    text = str(error).strip()
    said = re.search(r"WeightsUnpickler error:\s*(.*?)(\. |\n|$)|\n\n\n(.*?)(\.?\n|$)", text)
    return (said and (said[1] or said[3])) or text.split("\n")[0] or type(error).__name__
