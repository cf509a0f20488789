"""Several processes, one sweep: each rank trains its share of the chunks, and rank 0 gets all results."""

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist

STORES: list[tuple[Any, int, int]] = []
"""Store of the first rendezvous of these processes, with rank and their number: they can meet there only once."""

GROUPS = itertools.count()
"""Numbers of the groups that this program has joined, one for each sweep."""


@contextmanager
def group() -> Iterator[None]:
    """Joins the processes that ``torchrun`` started, unless they are joined already, or there is only this one.

    They leave the group at the end, because a process that ends in a group may abort; each sweep of a program makes a
    new group under another name.
    """
    ours = dist.is_available() and "WORLD_SIZE" in os.environ and not dist.is_initialized()
    if ours:
        from torch.distributed.rendezvous import rendezvous  # Not there in builds without processes.

        if not STORES:
            STORES.append(next(iter(rendezvous("env://"))))
        store, rank, world = STORES[0]
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        named = dist.PrefixStore(f"funcbio/{next(GROUPS)}", store)  # pyright: ignore[reportPrivateImportUsage]
        dist.init_process_group(backend, store=named, rank=rank, world_size=world)
    try:
        yield
    finally:
        if ours:
            dist.destroy_process_group()


def rank() -> int:
    """Returns the number of this process."""
    return dist.get_rank() if _joined() else 0


def world() -> int:
    """Counts the processes."""
    return dist.get_world_size() if _joined() else 1


def process_device() -> torch.device:
    """Returns the device of this process."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) if _joined() else torch.cuda.current_device())


def by_first(make: Callable[[], Any]) -> Any:
    """Calls a function on rank 0, and returns its result, or raises its error, on every rank."""
    if not _joined():
        return make()
    box: list[Any] = [None, None]
    failed = None
    if rank() == 0:
        try:
            box[0] = make()
        except Exception as error:
            # The others get its text: not every error can be sent.
            failed, box[1] = error, f"{error}"
    dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
    if box[1] is not None:
        raise failed or ValueError(box[1])
    return box[0]


def gathered(value: Any) -> list[Any] | None:
    """Returns the values of all ranks, on rank 0; None on the others."""
    if not _joined():
        return [value]
    values = [None] * world() if rank() == 0 else None
    dist.gather_object(value, values, dst=0)
    return values


def _joined() -> bool:
    return dist.is_available() and dist.is_initialized()
