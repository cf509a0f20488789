"""Files that are always whole: written aside, then renamed into place."""

import errno
import os
import stat
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import BinaryIO

from funcbio.files._parts import clear_parts, open_part, part_of


def write_aside(path: str | os.PathLike[str], write: Callable[[BinaryIO], object], mode: int = 0o666) -> None:
    """Writes a whole file or none: what was there before stays until the new one is complete and on disk.

    Several threads, processes and machines may write to one path at once: each writes a part of its own, and the last
    whole one stays. A new file gets the permissions of any new file, one that is replaced keeps its own, and a link
    stays a link. Parts that killed processes left are cleared.

    Args:
        path: The file.
        write: Writes the content into an open binary file, which can also be read.
        mode: Permissions of a new file, from which those are taken that new files never get.

    Raises:
        OSError: If the file cannot be written; it names the file or its folder.
    """
    target = Path(os.path.realpath(path))
    replaced = _replaced(target)
    clear_parts(target.parent, target.name)
    stack = ExitStack()
    try:
        with stack:
            part = part_of(target)
            # Before the part is made, and by code of the standard library: so an interrupt at any line leaves none.
            stack.callback(part.unlink, missing_ok=True)
            file = _opened(part, replaced, stack, mode)
            _fill(file, write, target)
            if os.name == "nt":
                file.close()  # There, no open file can be renamed.
            os.replace(part, target)
    finally:
        stack.close()  # Unless an interrupt came before it, this has nothing left to do.
    _sync(target.parent)


def _replaced(target: Path) -> os.stat_result | None:
    """Returns the status of the file that will be replaced; None if there is none."""
    try:
        status = os.stat(target)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(status.st_mode):
        number, kind = (errno.EISDIR, "folder") if stat.S_ISDIR(status.st_mode) else (errno.EINVAL, "device")
        raise OSError(number, f"path should be that of a file; found a {kind}", str(target))
    return status


def _opened(part: Path, replaced: os.stat_result | None, stack: ExitStack, mode: int) -> BinaryIO:
    """Opens the part with the permissions of the file that it replaces; never with more, not for a moment."""
    try:
        file = open_part(part, mode if replaced is None else 0o600, stack)
    except OSError as error:
        should = f"folder should be one to write in; found: {error.strerror}"
        raise OSError(error.errno, should, str(part.parent)) from None
    if replaced is not None and hasattr(os, "fchmod"):
        with suppress(OSError):  # Only root can give files to others.
            os.fchown(file.fileno(), replaced.st_uid, replaced.st_gid)
        os.fchmod(file.fileno(), stat.S_IMODE(replaced.st_mode))
    return file


def _fill(file: BinaryIO, write: Callable[[BinaryIO], object], target: Path) -> None:
    handled = sys.exc_info()[1]
    try:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    except (OSError, RuntimeError) as error:
        with suppress(OSError):
            file.close()  # Tries to write the rest once more.
        cause: BaseException | None = error
        while cause is not None and cause is not handled and not isinstance(cause, OSError):
            cause = cause.__context__  # Of a full disk, torch says only that positions differ.
        if not isinstance(cause, OSError) or cause is handled or cause.errno is None or cause.filename is not None:
            raise
        raise OSError(cause.errno, cause.strerror, str(target)) from error


def _sync(folder: Path) -> None:
    """Writes the new name to disk too, on systems that can open folders."""
    with suppress(OSError), ExitStack() as stack:
        descriptor = os.open(folder, os.O_RDONLY)
        stack.callback(os.close, descriptor)
        os.fsync(descriptor)
