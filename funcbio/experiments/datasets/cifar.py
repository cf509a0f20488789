"""The two formats in which CIFAR-10 and CIFAR-100 are published for programs: binary, and pickles of Python 2."""

from typing import Any

import numpy as np

from funcbio.experiments.datasets.unpickling import unpickle
from funcbio.experiments.frame.settings import SettingError

SHAPE = 3, 32, 32
PIXELS = 3 * 32 * 32

Part = tuple[np.ndarray, np.ndarray]


def read_binary(names: tuple[str, ...], contents: list[bytes], *, head: int) -> Part:
    """Reads records of ``head`` label bytes, the last of which counts, and 3,072 pixels: red, green, blue, by rows."""
    record = head + PIXELS
    if not contents[0] or len(contents[0]) % record:
        should = f"one or more records of {record} bytes"
        raise SettingError(f"{names[0]} should hold {should}; found {len(contents[0])} bytes")
    rows = np.frombuffer(contents[0], np.uint8).reshape(-1, record)
    return rows[:, head:].reshape(-1, *SHAPE), rows[:, head - 1]


def read_pickle(names: tuple[str, ...], contents: list[bytes], *, key: bytes) -> Part:
    """Reads a pickled dict of "data", shape ``(n, 3072)``, and labels under ``key``."""
    batch: Any = unpickle(contents[0], names[0])
    data, labels = (batch.get(name) if isinstance(batch, dict) else None for name in (b"data", key))
    pixels = data if isinstance(data, np.ndarray) and data.ndim == 2 and data.shape[1] == PIXELS else None
    if pixels is None or not isinstance(labels, list) or len(labels) != len(pixels):
        should = f"a dict with data of {PIXELS} numbers a row, and as many {key.decode()}"
        raise SettingError(f"{names[0]} should hold {should}; found {_described(batch)}")
    if not all(type(label) is int and 0 <= label < 256 for label in labels):
        raise SettingError(f"{names[0]} should hold labels from 0 to 255; found others")
    return pixels.reshape(-1, *SHAPE), np.array(labels, np.uint8)


def _described(batch: Any) -> str:
    if not isinstance(batch, dict):
        return type(batch).__name__
    return f"a dict with {', '.join(repr(name)[:20] for name in list(batch)[:6]) or 'nothing'}"
