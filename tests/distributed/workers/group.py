"""What the workers share: they run on two processes, and compare parts with a whole made on one."""

import os
import sys
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from optree import tree_map
from torch.distributed.device_mesh import init_device_mesh

from funcbio.tensors._sharding import is_distributed, shard_like, whole


@contextmanager
def processes(*shape, names=None):
    """A device mesh over the processes that torchrun started."""
    torch.set_num_threads(1)
    # Short, so that a check that fails on one process does not leave the other waiting for it.
    dist.init_process_group("gloo", timeout=timedelta(seconds=60))
    try:
        yield init_device_mesh("cpu", shape or (dist.get_world_size(),), mesh_dim_names=names)
        dist.barrier()
    finally:
        dist.destroy_process_group()
    # All checks have passed. Gloo's threads sometimes abort a process while Python takes itself down: do not let it.
    sys.stdout.flush()
    os._exit(0)


def report(line):
    if os.environ["RANK"] == "0":
        print(line, flush=True)


def sharded(args, mesh, placements):
    """Parameters, gradients and state as DTensors; a leaf that lacks an axis that is split is replicated."""
    from torch.distributed.tensor import Replicate, distribute_tensor

    def place(leaf):
        fits = [Replicate() if hasattr(p, "dim") and p.dim >= leaf.ndim else p for p in placements]
        return distribute_tensor(leaf.clone(), mesh, fits, src_data_rank=None)

    params, grads, state = args
    params, grads = tree_map(place, params), tree_map(place, grads)

    def follow(tree):
        return tree_map(lambda leaf, like: shard_like(leaf, like) if leaf.ndim else leaf, tree, params)

    trees = {
        name: follow(getattr(state, name)) for name in ("rate", "sign", "activity", "replaced") if getattr(state, name)
    }
    return params, grads, state._replace(**trees)


def tolerance(tensor):
    """Rounding of a few operations, and of a sum taken in another order."""
    return (16 + max(tensor.numel(), 1).bit_length()) * torch.finfo(tensor.dtype).eps


def close(found, expected, name=""):
    """Asserts that masks and counts are equal, and floats equal up to rounding."""
    found = whole(found).detach()
    assert found.shape == expected.shape, (name, found.shape, expected.shape)
    assert found.dtype == expected.dtype, (name, found.dtype, expected.dtype)
    bound = tolerance(expected) if expected.is_floating_point() else 0.0
    message = lambda text: f"{name}: {text}"
    torch.testing.assert_close(found, expected.detach(), rtol=bound, atol=bound, equal_nan=True, msg=message)


def close_trees(found, expected, like, name=""):
    """Asserts closeness of every leaf, and that leaves like a parameter are laid out as it."""
    tree_map(lambda a, b: close(a, b, name), found, expected)
    for key, leaf in found.items():
        if leaf.shape == like[key].shape and is_distributed(like[key]):
            assert leaf.placements == like[key].placements, (name, key, leaf.placements)


def identical(tensor, name=""):
    """Asserts, on all processes, that all hold the same bits."""
    mine = tensor.detach().contiguous().flatten().view(torch.uint8)
    most, least = mine.clone(), mine.clone()
    dist.all_reduce(most, dist.ReduceOp.MAX)
    dist.all_reduce(least, dist.ReduceOp.MIN)
    assert torch.equal(most, least), f"{name} differs between processes"
