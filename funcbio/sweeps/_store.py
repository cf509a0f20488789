"""The folder of a sweep: every chunk's state, written aside and renamed, so that nothing is ever lost."""

import hashlib
import json
import math
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from funcbio.base import listed
from funcbio.checkpoint import load_checkpoint, save_checkpoint
from funcbio.files import FileError
from funcbio.files._aside import write_aside
from funcbio.files._parts import clear_parts
from funcbio.files._seal import FORMAT, read_json, sealed_json
from funcbio.functional._idle import outside
from funcbio.identity._compare import compare
from funcbio.identity._describe import Seen
from funcbio.sweeps._engine import Engine

MANIFEST = "sweep.json"
SHOULD = "output should be a new folder, or that of the same sweep"


class Trained(NamedTuple):
    """Holds the results of a chunk.

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

    Attributes:
        sweep: Checksum of the sweep's first file, written into all others.
        members: Numbers of the members in every chunk, by its name.
    """

    def __init__(self, folder: Path | None, seconds: float) -> None:
        self.folder, self.seconds = folder, seconds if folder else math.inf
        self.sweep, self.members = "", {}

    def open(self, describe: Callable[[], Seen], plan: Callable[[], dict[str, Any]]) -> tuple[dict[str, Any], str]:
        """Takes the folder for this sweep.

        Args:
            describe: Returns the fingerprint of this sweep.
            plan: Makes a plan, for a new folder: the number of members at once, and what compiles.

        Returns:
            The plan that the folder was begun with, and the checksum of its first file.

        Raises:
            ValueError: If it holds another sweep, or one of an earlier version.
            FileError: If its first file is damaged.
        """
        if self.folder is None:
            return plan(), ""
        clear_parts(self.folder)
        path, seen = self.folder / MANIFEST, json.loads(json.dumps(describe()))
        new = not path.exists()
        if new:
            sealed = sealed_json({**plan(), "seen": seen})
            write_aside(path, lambda file: file.write(sealed))
        content = read_json(path)
        if content.get("format") != FORMAT:
            other = f"found one of another version of funcbio in {self.folder}: finish it with that, or take a new one"
            raise ValueError(f"{SHOULD}; {other}")
        if not new:
            _require_same(content["seen"], seen, self.folder)
        return content, hashlib.sha256(path.read_bytes()).hexdigest()[:16]

    def take(self, sweep: str, members: Mapping[str, list[int]]) -> None:
        """Sets what is written into every file: the sweep, and the members of the chunk."""
        self.sweep, self.members = sweep, members

    def resume(self, name: str, engine: Engine, lost: Tensor) -> tuple[int, int, list[dict[str, Any]]]:
        """Restores a chunk as it was saved; returns steps done, steps since the last row, and the rows."""
        parts = self._read(name, "state")
        if parts is None:
            return 0, 0, []
        shapes = [[leaf.shape for leaf in leaves] for leaves in (parts["engine"]["own"], engine.members.leaves())]
        if shapes[0] != shapes[1] or parts["lost"].shape != lost.shape:
            raise FileError(f"{self._path(name, 'state')} should hold the tensors of its members; found others")
        engine.load_state_dict(parts["engine"])
        lost.copy_(parts["lost"])
        return parts["done"], parts["since"], parts["rows"]

    def save(self, name: str, engine: Engine, done: int, since: int, rows: list[dict[str, Any]], lost: Tensor) -> None:
        """Writes the state of a chunk."""
        where = {"done": done, "since": since, "rows": rows, "lost": lost}
        save_checkpoint(self._path(name, "state"), about=self._about(name, "state"), engine=engine, **where)

    def finish(self, name: str, trained: Trained) -> None:
        """Writes the results of a chunk, in the place of its state."""
        if self.folder is not None:
            save_checkpoint(self._path(name, "done"), about=self._about(name, "done"), **trained._asdict())
            self._path(name, "state").unlink(missing_ok=True)

    def finished(self, name: str) -> Trained | None:
        """Returns the results of a chunk; None if it is not finished."""
        parts = self._read(name, "done")
        return None if parts is None else Trained(**parts)

    def _read(self, name: str, kind: str) -> dict[str, Any] | None:
        """Returns the content of a file of this sweep; None if it is not there.

        Raises:
            FileError: If it is damaged, or belongs to another sweep, chunk or members.
        """
        if self.folder is None or not self._path(name, kind).exists():
            return None
        parts = load_checkpoint(self._path(name, kind))
        about = parts.pop("about", {})
        for what, expected in self._about(name, kind).items():
            if not isinstance(about, dict) or about.get(what) != expected:
                actual = about.get(what, "nothing") if isinstance(about, dict) else about
                raise FileError(f"{self._path(name, kind)} should have {what} {expected}; found {actual}")
        return parts

    def _about(self, name: str, kind: str) -> dict[str, Any]:
        """Returns the entries by which a file is recognized."""
        return {"format": FORMAT, "kind": kind, "sweep": self.sweep, "chunk": name, "members": self.members[name]}

    def _path(self, name: str, kind: str) -> Path:
        assert self.folder is not None
        return self.folder / f"{name}.{kind}"


def _require_same(before: Seen, now: Seen, folder: Path) -> None:
    """Raises ValueError if a folder is of another sweep, and warns of entries that cannot be compared."""
    comparison = compare(before, now)
    if comparison.different is not None:
        path, old, new = comparison.different
        raise ValueError(f"{SHOULD}; found another {path} in {folder}: {_short(old)} instead of {_short(new)}")
    for should, names in (
        ("be as they were, which cannot be compared", comparison.unseen),
        ("be as they were; found differences that may be another machine's rounding", comparison.rounded),
        ("compute as before", comparison.versions),
    ):
        if names:
            text = f"{listed(names)} should {should}: the sweep in {folder} goes on with them"
            warnings.warn(text, stacklevel=outside())


def _short(text: str) -> str:
    return text if len(text) < 80 else f"{text[:77]}..."
