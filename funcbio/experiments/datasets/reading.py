"""Reading files as they are, with gzip, or from their archive, after looking how large they are."""

import gzip
import hashlib
import tarfile
import zlib
from pathlib import Path
from typing import BinaryIO

from funcbio.experiments.datasets.layouts import LARGEST, LARGEST_ARCHIVE, LARGEST_OTHER
from funcbio.experiments.frame.settings import SettingError

BLOCK_BYTES = 1 << 20


def summed(path: Path, name: str, *, packed: bool) -> tuple[str, int]:
    """Returns the checksum and the number of bytes of a file, unpacked from gzip, or of an archive as it is.

    Raises:
        SettingError: If it cannot be read, is damaged or is larger than the published one.
    """
    limit = LARGEST_ARCHIVE if packed else LARGEST.get(name, LARGEST_OTHER)
    try:
        with path.open("rb") if packed else _opened(path) as file:
            return _summed(file, path, limit)
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(path, error) from None


def read_file(path: Path, size: int) -> bytes:
    """Reads so many bytes of a file, unpacked from gzip."""
    try:
        with _opened(path) as file:
            return file.read(size)
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(path, error) from None


def read_archive(path: Path, names: list[str]) -> dict[str, bytes]:
    """Reads files of an archive by their names, whatever its folders; nothing is written to disk."""
    try:
        with gzip.open(path, "rb") as file:
            _summed(file, path, LARGEST_ARCHIVE)  # All of it, heads too, which tarfile reads whole.
        contents = {}
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:
                _require_room(member, path)
                file = archive.extractfile(member) if member.isreg() else None
                if file is not None and Path(member.name).name in names:
                    contents[Path(member.name).name] = file.read()
    except (tarfile.TarError, OSError, EOFError, zlib.error, ValueError) as error:
        if isinstance(error, SettingError):
            raise
        raise SettingError(f"{path} should be a whole tar.gz archive; found {error}") from None
    missing = [name for name in names if name not in contents]
    if missing:
        raise SettingError(f"{path} should hold {', '.join(names)}; found no {', '.join(missing)}")
    return contents


def _opened(path: Path) -> BinaryIO | gzip.GzipFile:
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")


def _damaged(path: Path, error: Exception) -> SettingError:
    kind = "gzip file" if path.suffix == ".gz" else "file"
    return SettingError(f"{path} should be a whole {kind}; found {error}")


def _summed(file: BinaryIO | gzip.GzipFile, path: Path, limit: int) -> tuple[str, int]:
    """Returns the checksum and the number of bytes of a file, block by block; refuses more than the limit."""
    digest, size = hashlib.md5(usedforsecurity=False), 0
    while block := file.read(BLOCK_BYTES):
        size += len(block)
        if size > limit:
            raise SettingError(f"{path} should hold at most {limit} bytes; found more")
        digest.update(block)
    return digest.hexdigest(), size


def _require_room(member: tarfile.TarInfo, path: Path) -> None:
    """Refuses a file of an archive whose stated size is over the limit, as that of a file with holes can be."""
    if member.size > LARGEST_OTHER:
        raise SettingError(f"{path} should hold files of at most {LARGEST_OTHER} bytes; found {member.size}")
