"""Metrics as one flat dictionary of numbers, the form that loggers take."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from funcbio._checks import shown


def flatten(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Lays nested metrics out flat; values of one device are fetched together.

    Args:
        metrics: Numbers and 0-d tensors, nested in mappings; what ``funcbio.metrics`` returns, alone or within
            a mapping of your own, as ``{"loss": loss, "bio": metrics}``.

    Returns:
        Numbers by the path to them, joined by "/".

    Raises:
        ValueError: If a value is neither a number nor a 0-d tensor, or two have the same path.

    Example:
        >>> from funcbio.monitor import flatten
        >>> flatten({"loss": 0.5, "bio": {"fc.weight": {"rate_mean": torch.tensor(1.0)}}})
        {'loss': 0.5, 'bio/fc.weight/rate_mean': 1.0}
    """
    pairs = list(_walk(metrics, ()))
    paths = [path for path, _ in pairs]
    double = sorted({path for path in paths if paths.count(path) > 1}) if len(set(paths)) < len(paths) else []
    if double:
        raise ValueError(f"metrics should have one value for each path; found two for {double[0]!r}")
    tensors = [value.detach() for _, value in pairs if isinstance(value, Tensor)]
    fetched: Iterator[float] = iter(_fetch(tensors))
    return {path: next(fetched) if isinstance(value, Tensor) else float(value) for path, value in pairs}


def _walk(value: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _walk(inner, (*path, str(name)))
    elif path and (isinstance(value, int | float) or (isinstance(value, Tensor) and value.numel() == 1 >= value.ndim)):
        yield "/".join(path), value
    else:
        at = f" at {'/'.join(path)!r}" if path else ""
        raise ValueError(f"metrics should hold numbers and 0-d tensors, in mappings{at}; found {shown(value)}")


def _fetch(tensors: list[Tensor]) -> list[float]:
    """Returns the numbers, with one transfer from a device if all are there."""
    if len({tensor.device for tensor in tensors}) != 1:
        return [float(tensor) for tensor in tensors]
    return torch.stack([tensor.reshape(()).to(torch.float64) for tensor in tensors]).tolist()
