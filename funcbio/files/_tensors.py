"""Files of tensors and plain values: as ``torch.save`` writes them, sealed, and looked through before they are read."""

import os
import re
import stat
from pathlib import Path
from typing import Any, BinaryIO

import torch

from funcbio.files._archive import check_archive
from funcbio.files._claims import check_claims
from funcbio.files._error import FileError
from funcbio.files._seal import seal_archive


def write_tensors(content: dict[str, Any], file: BinaryIO) -> None:
    """Writes a dictionary of tensors and plain values into an open file, with a checksum of every byte."""
    torch.save(content, file)
    seal_archive(file)


def read_tensors(path: str | os.PathLike[str], what: str = "a whole file of save_checkpoint") -> dict[str, Any]:
    """Reads a dictionary of tensors and plain values, onto the CPU and without running code.

    The whole file is checked before any of it is loaded, so a damaged one takes no memory.

    Args:
        path: The file.
        what: Name of the expected kind of file, for the message.

    Raises:
        FileError: If it is something else, or damaged; the message names it.
        OSError: If it is not there, or cannot be read.
    """
    should = f"{Path(path)} should be {what}"
    if not stat.S_ISREG(os.stat(path).st_mode):  # Opening a pipe or a device may block forever.
        raise FileError(f"{should}; found {'a folder' if os.path.isdir(path) else 'a device'}")
    with open(path, "rb") as file:
        try:
            check_claims(*check_archive(file))
            file.seek(0)
            content = torch.load(file, map_location="cpu", weights_only=True)
        except (MemoryError, OSError, Warning):
            raise
        except Exception as error:  # Torch raises many types for a file of another kind.
            raise FileError(f"{should}; found {_reason(error)}") from None
    if type(content) is not dict or not all(isinstance(name, str) for name in content):
        raise FileError(f"{should}; found one of torch.save that holds {type(content).__name__}")
    return content


def _reason(error: Exception) -> str:
    """Returns the sentence of an error that says what is wrong; torch's text also holds advice."""
    text = str(error).strip()
    match = re.search(r"WeightsUnpickler error:\s*(.*?)(\. |\n|$)|\n\n\n(.*?)(\.?\n|$)", text)
    return (match and (match[1] or match[3])) or text.split("\n")[0] or type(error).__name__
