"""Signals that outlive a call, and those of replicas, each of which sees data of its own."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch._C import _functorch  # pyright: ignore[reportAttributeAccessIssue]
from torch.nn.parallel import DistributedDataParallel


def outlives(x: Any) -> bool:
    """Returns True if an input holds numbers that are there after the call: not those of ``vmap`` and of tracers."""
    if torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.FAKE) is not None:
        return False
    while isinstance(x, Tensor) and _functorch.is_gradtrackingtensor(x):
        x = _functorch.get_unwrapped(x)
    return not (isinstance(x, Tensor) and _functorch.is_batchedtensor(x))


def replicas() -> Any:
    """Returns the processes whose replicas run this forward pass under DistributedDataParallel; None otherwise."""
    wrapper: Any = DistributedDataParallel._get_active_ddp_module()
    return None if wrapper is None else wrapper.process_group


def summed(rows: Mapping[str, Tensor], group: Any) -> dict[str, Tensor]:
    """Returns tensors summed over processes, all in one message; every process has the same bits afterwards."""
    import torch.distributed as dist

    flat = torch.cat([row.double().flatten() for row in rows.values()])
    dist.all_reduce(flat, group=group)
    sizes = [row.numel() for row in rows.values()]
    parts = zip(rows.items(), flat.split(sizes), strict=True)
    return {name: part.view_as(row) for (name, row), part in parts}
