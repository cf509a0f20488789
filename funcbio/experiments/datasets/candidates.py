"""Places in a folder and in packages where files with the names of a data set lie."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from funcbio.experiments.datasets.layouts import Layout, Published


class Found(NamedTuple):
    """Describes files that are there.

    Attributes:
        layout: Their format.
        home: Their folder, or the archive.
        paths: The files by name without ``.gz``; of an archive, itself by its name.
        sizes: Their sizes in bytes, those of files without gzip.
    """

    layout: Layout
    home: Path
    paths: dict[str, Path]
    sizes: Mapping[str, int] = {}

    @property
    def packed(self) -> bool:
        """Returns True for an archive."""
        return self.home in self.paths.values()


def candidates(published: Published, folder: Path) -> Iterator[Found]:
    """Yields all places with files of a data set, in the order in which they are looked for; some may lack files."""
    for layout in published.layouts:
        for home in (*(folder / place for place in layout.folders), *layout.elsewhere()):
            paths = {name: path for name in layout.names if (path := _path(home, name)) is not None}
            if paths:
                yield Found(layout, home, paths)
        archive = folder / layout.archive
        if layout.archive and archive.is_file():
            yield Found(layout, archive, {layout.archive: archive})


def _path(home: Path, name: str) -> Path | None:
    return next((path for path in (home / name, home / f"{name}.gz") if path.is_file()), None)


def looked_for(published: Published) -> list[str]:
    """Returns what is looked for where: the first file of every format in all of its folders, and the archives."""
    paths = []
    for layout in published.layouts:
        first = layout.names[0]
        paths += [f"{place}/{first}".removeprefix("./") for place in layout.folders]
        paths += [str(place / first) for place in layout.elsewhere()]
        paths += [layout.archive] if layout.archive else []
    return paths
