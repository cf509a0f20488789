"""Distributed tensors: the part of a whole that this process holds, and numbers that belong to the whole.

A parameter under ``fully_shard`` or tensor parallelism is a ``DTensor``. Elementwise rules run on it as they are;
statistics and draws come through this file. A plain tensor costs one failed attribute look-up.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn


class Sample(Protocol):
    """Describes a sampler of this library with all arguments fixed but the shape and the offset."""

    def __call__(self, shape: tuple[int, ...], /, *, offset: int = 0) -> Tensor:
        """Returns a draw."""
        ...


def is_distributed(tensor: Tensor) -> bool:
    """Returns True if a tensor is a DTensor; judged by an attribute, as importing the class takes a second."""
    return hasattr(tensor, "placements")


def is_plain(value: object) -> bool:
    """Returns True if a value is a tensor of torch itself: neither distributed nor of another subclass."""
    return type(value) is Tensor or type(value) is nn.Parameter


def local(tensor: Tensor) -> Tensor:
    """Returns the part that this process holds; the tensor itself if it is plain."""
    part: Any = tensor
    return part.to_local() if is_distributed(tensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """Returns the whole as a plain tensor, gathered if it is distributed."""
    parts: Any = tensor
    return parts.full_tensor() if is_distributed(tensor) else tensor


def agreed(values: Tensor, like: Any) -> Tensor:
    """Returns, on all processes that share ``like``, the values that the first of them has."""
    if not is_distributed(like):
        return values
    from torch.distributed.tensor import distribute_tensor

    # A copy, because what is sent is received in place.
    return distribute_tensor(values.clone(), like.device_mesh).to_local()


def same_everywhere(values: Tensor, like: Any) -> bool:
    """Returns True, on all processes that share ``like``, if all of them hold the same ``values``."""
    return holds_everywhere(torch.equal(local(values), agreed(local(values), like)), [like])


def holds_everywhere(verdict: bool, tensors: Iterable[Any]) -> bool:
    """Returns True if ``verdict`` is True on all processes that share the tensors; all of them must call it."""
    for mesh in dict.fromkeys(tensor.device_mesh for tensor in tensors if is_distributed(tensor)):
        from torch.distributed.tensor import DTensor, Partial

        doubt = torch.tensor(not verdict, dtype=torch.int32, device=mesh.device_type)
        verdict = not whole(DTensor.from_local(doubt, mesh, [Partial()] * mesh.ndim, run_check=False))
    return verdict


def reduced(values: Any, reduce: Callable[[Tensor], Tensor], operation: str = "sum") -> Tensor:
    """Reduces a distributed tensor: every part by ``reduce``, then the results, element by element, by ``operation``.

    Returns:
        Plain tensor of the shape that ``reduce`` returns, the same on every process.
    """
    from torch.distributed.tensor import DTensor, Partial, Replicate

    mesh, everywhere = values.device_mesh, [Replicate()] * values.device_mesh.ndim
    places = [Replicate() if place.is_partial() else place for place in values.placements]
    result = reduce(values.redistribute(mesh, places).to_local())
    parts = [place if place.is_replicate() else Partial(operation) for place in places]
    return DTensor.from_local(result, mesh, parts, run_check=False).redistribute(mesh, everywhere).to_local()


def shard_like(values: Tensor, like: Any) -> Tensor:
    """Lays ``values``, the same on every process, out so that it broadcasts with ``like``; nothing is sent.

    Args:
        values: Plain tensor, or DTensor that is replicated or laid out already, of as many dimensions as ``like``.
        like: Any tensor; if it is plain, ``values`` is returned.

    Returns:
        DTensor, sharded as ``like`` along dimensions of the same size and replicated along the others.
    """
    if not is_distributed(like):
        return values
    from torch.distributed.tensor import Replicate, distribute_tensor

    def follows(place: Any) -> bool:
        return hasattr(place, "dim") and values.shape[place.dim] == like.shape[place.dim]

    mesh, places = like.device_mesh, [place if follows(place) else Replicate() for place in like.placements]
    if not is_distributed(values):
        return distribute_tensor(values.detach(), mesh, places, src_data_rank=None)
    sharded: Any = values
    if sharded.device_mesh != mesh:
        return distribute_tensor(whole(sharded).detach(), mesh, places, src_data_rank=None)
    return sharded if list(sharded.placements) == places else sharded.redistribute(mesh, places)


def draw_like(sample: Sample, like: Any) -> Tensor:
    """Draws a tensor of the shape and layout of ``like``; its numbers are those of the whole draw.

    Args:
        sample: Draws from a stream, for instance ``partial(uniform, key, stream="name")``.
        like: Any tensor.

    Returns:
        Plain tensor, or DTensor of the placements of ``like``.
    """
    if not is_distributed(like):
        return sample(like.shape)
    from torch.distributed.tensor import DTensor, distribute_tensor

    mesh, places = like.device_mesh, like.placements
    first = _first_row(like)
    if first is None:
        return distribute_tensor(sample(like.shape), mesh, places, src_data_rank=None)
    row = math.prod(like.shape[1:])
    part = sample(like.to_local().shape, offset=first * row)
    stride = torch.empty(like.shape, device="meta").stride()
    return DTensor.from_local(part, mesh, places, run_check=False, shape=like.shape, stride=stride)


def _first_row(like: Any) -> int | None:
    """Returns the first row of this process, if it holds a run of whole rows; None if its part is not contiguous."""
    from torch.distributed.tensor import Shard

    split = [axis for axis, place in enumerate(like.placements) if not place.is_replicate()]
    if not split:
        return 0
    if len(split) > 1 or like.placements[split[0]] != Shard(0):
        return None
    # Rows are dealt out as by torch.chunk: all parts are of one size, but for the last ones.
    mesh, rows = like.device_mesh, like.shape[0]
    return min(rows, mesh.get_local_rank(split[0]) * -(-rows // mesh.size(split[0])))


def cuts(values: Any, size: int, dim: int) -> bool:
    """Returns True if runs of ``size`` neighbours along ``dim`` may lie on more than one process."""
    if not is_distributed(values):
        return False
    split = [axis for axis, place in enumerate(values.placements) if _splits(place, dim)]
    return values.shape[dim] % (size * math.prod(values.device_mesh.size(axis) for axis in split)) != 0


def joined(values: Any, dim: int) -> Tensor:
    """Returns the same tensor, no longer split along ``dim``."""
    from torch.distributed.tensor import Replicate

    places = [Replicate() if _splits(place, dim) else place for place in values.placements]
    return values.redistribute(values.device_mesh, places)


def _splits(place: Any, dim: int) -> bool:
    return getattr(place, "dim", None) == dim


def reshard(modules: Iterable[Any]) -> None:
    """Makes the modules that ``fully_shard`` manages free gathered weights: what was written to them is lost."""
    if not (dist.is_available() and dist.is_initialized()):
        return
    for module in modules:
        if hasattr(type(module), "set_reshard_after_forward"):
            module.reshard()
