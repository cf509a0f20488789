"""Layers and steps: what kernels run on, and which of them with which hyper-parameters."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from funcbio._checks import is_real
from funcbio.base import Key
from funcbio.engine._kernel import FULL, Draw, Kernel
from funcbio.engine._options import OPTIONS
from funcbio.engine._statistics import Stack
from funcbio.rng import uniform
from funcbio.tensors._sharding import is_plain

Columns = dict[str, list[Any]]
"""Operands by name, a list by layer each."""


class Step(NamedTuple):
    """Holds a kernel and its hyper-parameters, under the name of the method that asks for it.

    Attributes:
        name: The name.
        kernel: The kernel.
        hyper: Numbers, or tensors of no dimensions.
        needs: Names of the operands.
    """

    name: str
    kernel: Kernel
    hyper: Mapping[str, Any]
    needs: frozenset[str]


class Layer(NamedTuple):
    """Holds a layer's tensors, by the names that kernels read, and the name and key that its draws come from.

    Attributes:
        name: Name of its weight.
        key: Key of its draws.
        operands: The tensors.
        compiles: Whether kernels are to run on it compiled.
        goes_on: Whether its key is going to move on, call by call, so that numbers of later calls may be made early.
    """

    name: str
    key: Key
    operands: dict[str, Any]
    compiles: bool = False
    goes_on: bool = True


def are_fixed(steps: Sequence[Step]) -> bool:
    """Returns True if all hyper-parameters are numbers: the number in a tensor may be another one at the next call."""
    return not any(isinstance(value, Tensor) for step in steps for value in step.hyper.values())


def is_key(key: Any) -> bool:
    """Returns True if a key is plain memory."""
    return type(key) is Tensor and key.dtype == torch.int32 and key.shape == (2,)


def is_alike(value: Any, weight: Any) -> bool:
    """Returns True if a tensor is plain memory on the weight's device, of its shape and a type that kernels work in."""
    plain = is_plain(value) and is_real(value) and value.layout is torch.strided and not value.is_neg()
    return plain and value.shape == weight.shape and value.device == weight.device


def takes_part(layer: Layer, step: Step) -> bool:
    """Returns True if a layer has elements, and the fields that a kernel asks for."""
    marks = [layer.operands[name] for name in step.kernel.marks]
    return layer.operands["weight"].numel() > 0 and all(mark is not None and mark.ndim > 0 for mark in marks)


def broadcasts(values: Tensor, weight: Tensor) -> bool:
    """Returns True if a tensor has one element for each of the weight's, along some of its axes."""
    sizes = zip(values.shape, weight.shape, strict=False)
    return values.ndim == weight.ndim and all(one in (1, size) for one, size in sizes)


def take_statistics(kernel: Kernel, columns: Columns) -> list[list[Tensor]]:
    """Returns statistics of every layer: a list by layer for each of them."""
    taken: list[Sequence[Tensor]] = [()] * len(columns["weight"])
    for layers in _alike(kernel, columns):
        if len(layers) == 1:
            taken[layers[0]] = kernel.take_statistics([columns[name][layers[0]] for name in kernel.of])
            continue
        stacks = [Stack(torch.stack([columns[name][at].reshape(-1) for at in layers])) for name in kernel.of]
        facts = [fact.view(-1).unbind() for fact in kernel.take_statistics(stacks)]
        for layer, values in zip(layers, zip(*facts, strict=True), strict=True):
            taken[layer] = values
    return [list(column) for column in zip(*taken, strict=True)]


def _alike(kernel: Kernel, columns: Columns) -> Iterator[list[int]]:
    """Yields layers whose statistics can be taken together: small ones of one size, on as many elements as a tile."""
    sizes: dict[int, list[int]] = {}
    together = FULL.issuperset(kernel.of)
    for layer, weight in enumerate(columns["weight"]):
        sizes.setdefault(weight.numel() if together else -layer, []).append(layer)
    for size, layers in sizes.items():
        most = max(1, OPTIONS.sum_elements // max(1, size)) if together else 1
        yield from (layers[first : first + most] for first in range(0, len(layers), most))


def small_draws(kernel: Kernel, layers: Sequence[Layer], columns: Columns) -> list[list[Tensor] | None]:
    """Draws the numbers that are smaller than the weights, for whole layers; None for the other draws."""

    def made(draw: Draw) -> list[Tensor] | None:
        if draw.like == "rate":
            return None
        one = [[1] * weight.ndim for weight in columns["weight"]]
        shapes = [count.shape for count in columns["activity"]] if draw.like == "activity" else one
        streams = [f"{draw.stream}/{layer.name}" for layer in layers]
        return [
            uniform(layer.key, tuple(shape), stream=stream)
            for layer, shape, stream in zip(layers, shapes, streams, strict=True)
        ]

    return [made(draw) for draw in kernel.draws]
