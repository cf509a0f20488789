"""Writers of metrics: TensorBoard, a CSV file, or Lightning's loggers. Any other takes what ``flatten`` returns."""

import csv
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from funcbio._checks import require
from funcbio.monitor._flat import flatten

STEP = "step"


def log_tensorboard(writer: Any, metrics: Mapping[str, Any], step: int) -> None:
    """Writes metrics as scalars of TensorBoard.

    Args:
        writer: A ``torch.utils.tensorboard.SummaryWriter``, or anything with its ``add_scalar``. It needs the package
            tensorboard: ``pip install '.[monitor]'`` in funcbio's source.
        metrics: What ``funcbio.metrics`` returns, or any mapping that ``flatten`` takes.
        step: The step of training.

    Raises:
        ValueError: If the writer has no ``add_scalar``, the step is no integer, or the metrics cannot be flattened.

    Example:
        >>> from unittest import mock
        >>> from funcbio.monitor import log_tensorboard
        >>> writer = mock.Mock()
        >>> log_tensorboard(writer, {"loss": torch.tensor(0.5)}, step=10)
        >>> writer.add_scalar.call_args
        call('loss', 0.5, 10)
    """
    should = "a SummaryWriter of torch.utils.tensorboard (pip install '.[monitor]' in funcbio's source)"
    require("writer", writer, should, callable(getattr(writer, "add_scalar", None)))
    _require_step(step)
    for name, value in flatten(metrics).items():
        writer.add_scalar(name, value, step)


def log_csv(path: str | os.PathLike[str], metrics: Mapping[str, Any], step: int) -> None:
    """Appends metrics to a CSV file: one row for each call, the first call also writes the header.

    The file is closed between calls: a resumed run appends to it. Numbers keep all digits.

    Args:
        path: The file; it is made if it is not there, its folder is not.
        metrics: What ``funcbio.metrics`` returns, or any mapping that ``flatten`` takes.
        step: The step of training, the first column.

    Raises:
        ValueError: If the columns are not those of the file, the step is no integer, or the metrics cannot be
            flattened. The file is then as it was.
        OSError: If the file cannot be written.

    Example:
        >>> import os, tempfile
        >>> from funcbio.monitor import log_csv
        >>> path = os.path.join(tempfile.mkdtemp(), "metrics.csv")
        >>> for step in (0, 100):
        ...     log_csv(path, {"loss": 1.0, "all": {"rate_mean": torch.tensor(0.5)}}, step)
        >>> with open(path) as file:
        ...     print(file.read(), end="")
        step,loss,all/rate_mean
        0,1.0,0.5
        100,1.0,0.5
    """
    _require_step(step)
    row, path = flatten(metrics), Path(path)
    require("metrics", STEP, f"without a {STEP!r} of their own, which is the first column", STEP not in row)
    row, header, gap = {STEP: step, **row}, None, ""
    if path.exists() and path.stat().st_size > 0:
        header, gap = _header(path), "" if _ends_a_line(path) else "\n"
        _require_columns(path, header, row)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, header or list(row), lineterminator="\n")
    if header is None:
        writer.writeheader()
    writer.writerow(row)
    with path.open("a", encoding="utf-8", newline="") as file:
        file.write(gap + text.getvalue())


def log_lightning(module: Any, metrics: Mapping[str, Any], **options: Any) -> None:
    """Hands metrics to Lightning, by ``self.log_dict``: call it in a hook of the module or of a callback.

    Args:
        module: The ``LightningModule``.
        metrics: What ``funcbio.metrics`` returns, or any mapping that ``flatten`` takes.
        **options: Options of Lightning's ``log_dict``, such as ``on_epoch=True``.

    Raises:
        ValueError: If the module has no ``log_dict``, or the metrics cannot be flattened.

    Example:
        >>> from unittest import mock
        >>> from funcbio.monitor import log_lightning
        >>> module = mock.Mock()
        >>> log_lightning(module, {"bio": {"rate_mean": torch.tensor(0.5)}}, on_step=True)
        >>> module.log_dict.call_args
        call({'bio/rate_mean': 0.5}, on_step=True)
    """
    require("module", module, "a LightningModule", callable(getattr(module, "log_dict", None)))
    module.log_dict(flatten(metrics), **options)


def _require_step(step: object) -> None:
    require(STEP, step, "an integer", isinstance(step, int) and not isinstance(step, bool))


def _header(path: Path) -> list[str]:
    with path.open(encoding="utf-8", newline="") as file:
        return next(csv.reader(file))


def _ends_a_line(path: Path) -> bool:
    """Returns True if the last row is whole; a row that a kill cut off stays as it is."""
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() == b"\n"


def _require_columns(path: Path, header: list[str], row: Mapping[str, Any]) -> None:
    new, gone = [name for name in row if name not in header], [name for name in header if name not in row]
    if new or gone:
        changes = [f"{what} {names}" for what, names in (("new", new[:5]), ("missing", gone[:5])) if names]
        raise ValueError(
            f"metrics should have the columns of {path}; found {' and '.join(changes)}: begin another file for them"
        )
