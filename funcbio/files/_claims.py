"""Checks of a pickle of torch: tensors lie within their bytes, and no number alone reserves memory."""

import io
import math
import pickle
from collections.abc import Mapping
from typing import Any

import torch

TAKES_MEMORY = ("Tensor", "Storage", "bytearray")
"""Ends of names that reserve memory when they are called with a number, which no file of torch does."""

MOST_REPEATED = 1 << 32
"""Elements that a tensor may have if they share bytes, as after ``expand``: a later copy would give each its own."""


class _Anything:
    """Stands for every class, function and object of a pickle; does nothing."""

    name = ""

    def __new__(cls, *arguments: Any, **_: Any) -> "_Anything":
        """Refuses calls that would take memory."""
        if cls.name.endswith(TAKES_MEMORY) and any(isinstance(argument, int) for argument in arguments):
            raise ValueError(f"a call of {cls.name} with a number")
        if cls.name.startswith("torch._utils._rebuild_tensor") and isinstance(arguments[0], _Storage):
            _check_bounds(*arguments[:4])
        return super().__new__(cls)

    def __setitem__(self, key: Any, value: Any) -> None:
        """Ignores an entry of a dictionary."""

    def __setstate__(self, state: Any) -> None:
        """Ignores a state."""


class _Storage:
    def __init__(self, elements: int) -> None:
        self.elements = elements


def _check_bounds(storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    repeats = math.prod(shape) > max(storage.elements, MOST_REPEATED)
    if 0 not in shape and (repeats or not 0 <= offset <= last < storage.elements):
        raise ValueError(f"a tensor of shape {shape} in {storage.elements} elements")


class _Reader(pickle._Unpickler):
    """Reads a pickle without making its objects; the fast reader would take memory for a memo's number."""

    def __init__(self, content: bytes, sizes: Mapping[str, int]) -> None:
        super().__init__(io.BytesIO(content), encoding="utf-8")
        self.sizes = sizes

    def find_class(self, module: str, name: str) -> Any:
        """Returns a class that stands for a name; nothing is imported."""
        return type("Anything", (_Anything,), {"name": f"{module}.{name}"})

    def persistent_load(self, pid: Any) -> _Storage:
        """Compares the size of a storage with that of its entry in the archive."""
        _, kind, key, _, elements = pid
        storage_class = getattr(torch, kind.name.rpartition(".")[2], None)
        width = getattr(getattr(storage_class, "_dtype", None), "itemsize", 1)
        if not 0 <= elements * width <= self.sizes.get(f"data/{key}", 0):
            raise ValueError(f"a storage of {elements} elements without their bytes")
        return _Storage(elements)


def check_claims(content: bytes, sizes: Mapping[str, int]) -> None:
    """Raises ValueError if a pickle is damaged, or claims more memory than its archive holds; the message says which.

    Args:
        content: The pickle.
        sizes: Bytes of every entry of the archive it is from.
    """
    try:
        _Reader(content, sizes).load()
    except ValueError:
        raise
    except Exception as error:  # A damaged pickle fails in any way.
        raise ValueError(f"damage ({type(error).__name__}: {error})") from None
