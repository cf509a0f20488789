"""Writing results: aside first, then renamed, so that a crash leaves no half file."""

import json
import math
import os
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from funcbio.experiments.frame.settings import SettingError
from funcbio.files._aside import write_aside
from funcbio.files._cleanup import cleaned_up
from funcbio.files._owner import owned
from funcbio.files._seal import sealed_json
from funcbio.sweeps import _ranks

if TYPE_CHECKING:
    from matplotlib.figure import Figure

UNDATED = {"metadata": {"Date": None}}
"""Options of ``save_figure`` for an SVG that does not say when it was drawn."""


def default_output(path: Path) -> str:
    """Returns the directory of the results of an experiment that a file describes."""
    return f"results/{path.stem}"


@cleaned_up
def kept(stack: ExitStack, output: str) -> Iterator[Path]:
    """Makes the directory of the results, with its parents, and keeps all other runs off it.

    What it made and is empty at the end is removed. Under torchrun the first process does all this.

    Raises:
        SettingError: If it cannot be made or written to, or another run works in it.
    """
    path = Path(output)
    try:
        with _ranks.group():
            _ranks.by_first(lambda: _take(stack, path))
    except OSError as error:
        raise SettingError(
            f"output should be a directory that can be written; found {output!r} ({error.strerror})"
        ) from None
    except ValueError as error:
        raise SettingError(f"{error}") from None
    yield path


def _take(stack: ExitStack, path: Path) -> None:
    stack.callback(_remove_empty, [place for place in (path, *path.parents) if not place.exists()])
    stack.enter_context(owned(path))


def _remove_empty(made: list[Path]) -> None:
    """Removes folders, from the innermost one outwards, that hold nothing but empty folders."""
    inner = [place for place, *_ in os.walk(made[0], topdown=False)] if made else []
    for place in (*inner, *made[1:]):
        with suppress(OSError):
            os.rmdir(place)


def write_json(path: Path, content: dict[str, Any], *, indent: int | None = 1) -> None:
    """Writes content as JSON; numbers that are not finite become null, which every reader knows."""
    text = json.dumps(_finite(content), indent=indent, allow_nan=False)
    write_text(path, text)


def write_sealed(path: Path, content: dict[str, Any]) -> None:
    """Writes the same with a checksum, for what a later run reads."""
    text = sealed_json(_finite(content))
    write_aside(path, lambda file: file.write(text))


def write_text(path: Path, text: str) -> None:
    """Writes a text."""
    write_aside(path, lambda file: file.write(text.encode()))


def rounded(values: Any, digits: int = 5) -> Any:
    """Returns a number, or numbers in nested lists, with some significant digits: more would be rounding errors."""
    return [rounded(value, digits) for value in values] if isinstance(values, list) else float(f"{values:.{digits}g}")


def save_figure(path: Path, figure: "Figure", **options: Any) -> None:
    """Writes a figure in the format that the name of the file ends with; options are those of ``savefig``."""
    write_aside(path, lambda file: figure.savefig(file, format=path.suffix[1:], **options))


def _finite(content: Any) -> Any:
    if isinstance(content, dict):
        return {name: _finite(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
