"""The IDX format, in which MNIST is published."""

import math
from functools import partial

import numpy as np

from funcbio.experiments.frame.settings import SettingError

UBYTE = 0x08
"""Code of unsigned bytes: all that images and labels of MNIST hold."""


def read_idx(content: bytes, name: str, dimensions: int) -> np.ndarray:
    """Reads an array of bytes: two zeros, type, number of dimensions, sizes (32 bits, high byte first), values.

    Raises:
        SettingError: If it is no such file, or cut off.

    Example:
        >>> read_idx(bytes([0, 0, 8, 1, 0, 0, 0, 2, 5, 9]), "labels", 1)
        array([5, 9], dtype=uint8)
    """
    start = 4 + 4 * dimensions
    magic = bytes([0, 0, UBYTE, dimensions])
    if content[:4] != magic or len(content) < start:
        should = f"an IDX file of bytes in {dimensions} dimensions, which begins with {magic.hex(' ')}"
        raise SettingError(f"{name} should be {should}; found {content[:4].hex(' ') or 'nothing'}")
    sizes = [int.from_bytes(content[at : at + 4], "big") for at in range(4, start, 4)]
    if len(content) - start != math.prod(sizes):
        shape = " x ".join(map(str, sizes))
        raise SettingError(f"{name} should hold {shape} values, as its head says; found {len(content) - start}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(sizes)


def read_pair(names: tuple[str, ...], contents: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Reads a file of images and one of labels; images get a channel, shape ``(n, 1, height, width)``."""
    images, labels = (read(contents[at], names[at]) for at, read in enumerate((_images, _labels)))
    if len(images) != len(labels):
        raise SettingError(f"{names[1]} should hold {len(images)} labels, as many as images; found {len(labels)}")
    return images[:, None], labels


_images, _labels = partial(read_idx, dimensions=3), partial(read_idx, dimensions=1)
