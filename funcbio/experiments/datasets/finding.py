"""Finding the files of a data set in a folder, as they are, with gzip, or in their archive."""

import gzip
import hashlib
import tarfile
import zlib
from pathlib import Path
from typing import BinaryIO

from funcbio.experiments.datasets.layouts import LARGEST, LARGEST_ARCHIVE, LARGEST_OTHER, MD5, Layout, Published
from funcbio.experiments.frame.settings import SettingError

BLOCK_BYTES = 1 << 20


def find(name: str, published: Published, folder: Path, *, check: bool) -> tuple[Layout, dict[str, bytes]]:
    """Returns the first format that is there, and the contents of its files by name.

    Raises:
        SettingError: If none is there, a file is missing or damaged, or a checksum is not the published one.
    """
    for layout in published.layouts:
        names = [name for part in (*layout.train, *layout.test) for name in part]
        for home in (folder / place for place in layout.folders):
            paths = {name: path for name in names if (path := _path(home, name)) is not None}
            missing = [name for name in names if name not in paths]
            if paths and missing:
                raise SettingError(f"{home} should hold all files of {name}; found no {', '.join(missing)}")
            if paths:
                return layout, {name: _read(path, name, check=check) for name, path in paths.items()}
        if layout.archive and (folder / layout.archive).is_file():
            return layout, _read_archive(folder / layout.archive, names, check=check)
    looked = ", ".join(_looked_for(published))
    raise SettingError(f"{str(folder)!r} should hold {name}, from {published.page}; found none of {looked}")


def _looked_for(published: Published) -> list[str]:
    paths = []
    for layout in published.layouts:
        first = layout.train[0][0]
        paths += [f"{place}/{first}".removeprefix("./") for place in layout.folders]
        paths += [layout.archive] if layout.archive else []
    return paths


def _path(home: Path, name: str) -> Path | None:
    return next((path for path in (home / name, home / f"{name}.gz") if path.is_file()), None)


def _read(path: Path, name: str, *, check: bool) -> bytes:
    """Reads a file; what is packed is looked through, and its checksum compared, before it takes memory."""
    limit, opened = LARGEST.get(name, LARGEST_OTHER), gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rb") as file:
            digest, size = _summed(file, path, limit)
            if check and name in MD5:
                _check(path, MD5[name], digest)
            file.seek(0)
            return file.read(size)
    except (OSError, EOFError, zlib.error) as error:
        kind = "gzip file" if path.suffix == ".gz" else "file"
        raise SettingError(f"{path} should be a whole {kind}; found {error}") from None


def _summed(file: BinaryIO | gzip.GzipFile, path: Path, limit: int) -> tuple[str, int]:
    """Returns the checksum and the number of bytes of a file, block by block; refuses more than the limit."""
    digest, size = hashlib.md5(usedforsecurity=False), 0
    while block := file.read(BLOCK_BYTES):
        size += len(block)
        if size > limit:
            raise SettingError(f"{path} should hold at most {limit} bytes; found more")
        digest.update(block)
    return digest.hexdigest(), size


def _read_archive(path: Path, names: list[str], *, check: bool) -> dict[str, bytes]:
    """Reads files of an archive by their names, whatever its folders; nothing is written to disk."""
    try:
        if check:
            with path.open("rb") as file:
                _check(path, MD5[path.name], _summed(file, path, LARGEST_ARCHIVE)[0])
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


def _require_room(member: tarfile.TarInfo, path: Path) -> None:
    """Refuses a file of an archive whose stated size is over the limit, as that of a file with holes can be."""
    if member.size > LARGEST_OTHER:
        raise SettingError(f"{path} should hold files of at most {LARGEST_OTHER} bytes; found {member.size}")


def _check(path: Path, published: str, digest: str) -> None:
    if digest != published:
        should = f"the published file, MD5 {published}; check=False (--no-check) reads it all the same"
        raise SettingError(f"{path} should be {should}; found MD5 {digest}")
