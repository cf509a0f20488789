"""Several processes, one sweep: each rank trains its share of the chunks, and rank 0 gets all results."""

import os
from typing import Any

import torch
import torch.distributed as dist


def join() -> None:
    """Joins the processes that ``torchrun`` started, unless they are joined already, or there is only this one.

    They stay joined until the program ends: it may hold several sweeps, and processes that part do not find together
    again.
    """
    if dist.is_available() and "WORLD_SIZE" in os.environ and not dist.is_initialized():
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")


def rank() -> int:
    """Number of this process."""
    return dist.get_rank() if _joined() else 0


def world() -> int:
    """Number of processes."""
    return dist.get_world_size() if _joined() else 1


def own_device() -> torch.device:
    """The device of this process."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) if _joined() else torch.cuda.current_device())


def from_first(value: Any) -> Any:
    """Returns what rank 0 has."""
    if not _joined():
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
    return box[0]


def gathered(value: Any) -> list[Any] | None:
    """Returns what every rank has, on rank 0; None on the others."""
    if not _joined():
        return [value]
    found = [None] * world() if rank() == 0 else None
    dist.gather_object(value, found, dst=0)
    return found


def _joined() -> bool:
    return dist.is_available() and dist.is_initialized()
