"""Finished parts of other runs, as of other machines, taken over into this one."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from funcbio.experiments.arena.settings import Settings, split
from funcbio.experiments.arena.training import shared
from funcbio.experiments.frame.results import numbers_of, read_run, run_path
from funcbio.experiments.frame.settings import SettingError


def take_over(settings: Settings, names: Sequence[str], folder: Path) -> None:
    """Copies the named parts that this folder lacks and another one has finished, once all were compared.

    Raises:
        SettingError: If a folder holds no finished parts, or a part has other settings.
        FileError: If a part is damaged.
    """
    sources = [Path(name) for name in split(settings.also) if name]
    for source in sources:
        if not any((source / "runs").glob("*.json")):
            raise SettingError(f"also should be folders of other runs of the arena; found none in {str(source)!r}")
    missing = [name for name in names if not run_path(folder, name).exists()]
    found = {name: source for source in reversed(sources) for name in missing if _holds(source, name, settings)}
    shared(lambda: _copy(found, folder))


def _holds(source: Path, name: str, settings: Settings) -> bool:
    """Returns True if a folder has a finished part; raises SettingError if that has other settings."""
    path = run_path(source, name)
    if not path.exists():
        return False
    if read_run(path)["settings"] != numbers_of(settings):
        raise SettingError(f"also should be folders of runs with the same settings; found others in {str(source)!r}")
    return True


def _copy(found: dict[str, Path], folder: Path) -> None:
    for name, source in found.items():
        run_path(folder, name).parent.mkdir(exist_ok=True)
        shutil.copy2(run_path(source, name), run_path(folder, name))
