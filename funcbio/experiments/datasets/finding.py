"""Finding the files of a data set, and comparing their checksums."""

import shlex
from pathlib import Path

from funcbio.experiments.datasets.candidates import Found, candidates, looked_for
from funcbio.experiments.datasets.published import PUBLISHED, file_with
from funcbio.experiments.datasets.reading import summed
from funcbio.experiments.frame.settings import SettingError


class NotFoundError(SettingError):
    """Reports that no file of a data set is there."""


class OtherDataError(NotFoundError):
    """Reports that files with the right names are those of another data set."""


def find(name: str, folder: Path, *, check: bool) -> Found:
    """Returns the first format that is there, all of it, once checksums have been compared.

    Files that are known to be those of another data set are passed over, also without ``check``.

    Raises:
        NotFoundError: If nothing is there; an OtherDataError if there are files, but those of another data set.
        SettingError: If a file is missing or damaged, or a checksum is not the published one.
    """
    published, others = PUBLISHED[name], []
    try:
        for found in candidates(published, folder):
            try:
                return _checked(name, found, check=check)
            except OtherDataError as error:
                others.append(error)
    except OSError as error:
        raise SettingError(f"{str(folder)!r} should be a folder that can be read; found {error}") from None
    if others:
        raise others[0]
    looked = ", ".join(looked_for(published))
    raise NotFoundError(f"{str(folder)!r} should hold {name}; found none of {looked}; {how_to_get(name, folder)}")


def how_to_get(name: str, folder: Path) -> str:
    """Returns where a data set is published, and a command that gets it, at the end of the line to be copied."""
    command = PUBLISHED[name].command.format(folder=shlex.quote(str(folder)))
    return f"get it from {PUBLISHED[name].page} or with: {command}"


def _checked(name: str, found: Found, *, check: bool) -> Found:
    """Looks through file by file, and says first of all whose it is; returns them with their sizes."""
    missing = [] if found.packed else [file for file in found.layout.names if file not in found.paths]
    sizes = {}
    for file, path in found.paths.items():
        digest, sizes[file] = summed(path, file, packed=found.packed)
        _require_own(name, file, path, digest)
        if check and not missing:
            _require_published(PUBLISHED[name].sums.get(file, digest), path, digest)
    if missing:
        raise SettingError(f"{found.home} should hold all files of {name}; found no {', '.join(missing)}")
    return found._replace(sizes=sizes)


def _require_published(md5: str, path: Path, digest: str) -> None:
    if digest != md5:
        should = f"the published file, MD5 {md5}; check=False (--no-check) reads it all the same"
        raise SettingError(f"{path} should be {should}; found MD5 {digest}")


def _require_own(name: str, file: str, path: Path, digest: str) -> None:
    """Refuses a published file under the name of another one."""
    known = file_with(digest)
    if known is None or known == (name, file):
        return
    error = SettingError if known[0] == name else OtherDataError
    described = f"{PUBLISHED[known[0]].title}'s {known[1]}"
    raise error(f"{path} should be {PUBLISHED[name].title}'s {file}; found {described}")
