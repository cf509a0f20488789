"""Writing results: aside first, then renamed, so that a crash leaves no half file."""

import json
import math
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from funcbio.experiments.frame.settings import SettingError
from funcbio.files._aside import write_aside
from funcbio.files._seal import sealed_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

UNDATED = {"metadata": {"Date": None}}
"""Options of ``save_figure`` for an SVG that does not say when it was drawn."""


def prepare(output: str) -> Path:
    """Makes the directory of the results, with its parents, before any work is done; returns its path.

    Raises:
        SettingError: If it cannot be made or written to.
    """
    path = Path(output)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return path
    except OSError as error:
        raise SettingError(
            f"output should be a directory that can be written; found {output!r} ({error.strerror})"
        ) from None


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
