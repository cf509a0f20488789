"""The folder of a sweep: every chunk's state, written aside and renamed, so that nothing is ever lost."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from funcbio.aside import write_aside
from funcbio.checkpoint import load_checkpoint, save_checkpoint
from funcbio.sweeps._engine import Engine

MANIFEST = "sweep.json"


class Trained(NamedTuple):
    """What a chunk came to.

    Attributes:
        rows: For every recorded step: the step, and each metric's value for every member.
        params: Final parameters, with a leading dimension of members, on the CPU.
        buffers: Final buffers.
        seconds: Time of the steps, without the first of each kind.
        compile_seconds: Time of the first steps.
        timed: Number of member-steps in ``seconds``.
    """

    rows: list[dict[str, Any]]
    params: dict[str, Tensor]
    buffers: dict[str, Tensor]
    seconds: float = 0.0
    compile_seconds: float = 0.0
    timed: int = 0


class Store:
    """Keeps the state of chunks; without a folder, keeps nothing.

    Args:
        folder: The folder, or None.
        seconds: Time between two savings of a chunk.
    """

    def __init__(self, folder: Path | None, seconds: float) -> None:
        self.folder, self.seconds = folder, seconds if folder else math.inf

    def open(self, fingerprint: Callable[[], dict[str, Any]], chunk: int) -> int:
        """Takes the folder for this sweep, and returns the number of members at once that it was begun with.

        Raises:
            ValueError: If it holds another sweep.
        """
        if self.folder is None:
            return chunk
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / MANIFEST
        wanted = json.loads(json.dumps(fingerprint()))
        if not path.exists():
            text = json.dumps({"chunk": chunk, **wanted}, indent=1)
            write_aside(path, lambda file: file.write(text.encode()))
            return chunk
        found = json.loads(path.read_text())
        for name, value in wanted.items():
            if found.get(name) != value:
                raise ValueError(
                    f"output should be a new folder, or that of the same sweep; found another {name} in {self.folder}: "
                    f"{_short(found.get(name))} instead of {_short(value)}"
                )
        return found["chunk"]

    def resume(self, name: str, engine: Engine, lost: Tensor) -> tuple[int, int, list[dict[str, Any]]]:
        """Brings a chunk to where it was saved; returns steps done, steps since the last row, and the rows."""
        path = self._path(name)
        if path is None or not path.exists():
            return 0, 0, []
        parts = load_checkpoint(path, engine=engine, lost=lost)
        lost.copy_(parts["lost"])
        return parts["done"], parts["since"], parts["rows"]

    def save(self, name: str, engine: Engine, done: int, since: int, rows: list[dict[str, Any]], lost: Tensor) -> None:
        """Writes where a chunk is."""
        path = self._path(name)
        assert path is not None
        save_checkpoint(path, engine=engine, done=done, since=since, rows=rows, lost=lost)

    def finish(self, name: str, found: Trained) -> None:
        """Writes what a chunk came to, in the place of its state."""
        state, done = self._path(name), self._path(name, ".done")
        if state is not None and done is not None:
            save_checkpoint(done, **found._asdict())
            state.unlink(missing_ok=True)

    def finished(self, name: str) -> Trained | None:
        """Returns what a chunk came to, if it did."""
        path = self._path(name, ".done")
        if path is None or not path.exists():
            return None
        return Trained(**load_checkpoint(path))

    def _path(self, name: str, end: str = ".state") -> Path | None:
        return None if self.folder is None else self.folder / f"{name}{end}"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) < 80 else f"{text[:77]}..."
