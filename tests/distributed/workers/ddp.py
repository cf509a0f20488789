"""Replicas under DistributedDataParallel stay the same to the last bit, and talk no more than without us."""

import inspect
import sys
from contextlib import nullcontext

import torch
import torch.distributed as dist
from group import identical, processes
from nets import GRADIENT, NETS, WEIGHTS, backward, batch, convert, layers, report
from torch.distributed.tensor.debug import CommDebugMode
from torch.nn.parallel import DistributedDataParallel

from funcbio import pool_activity


def wrapped(name, **changes):
    """A replica that starts from weights and keys of its own: DDP takes those of the first process."""
    torch.manual_seed(100 + dist.get_rank())
    return DistributedDataParallel(convert(NETS[name][0](), **changes))


def train(ddp, name, steps, methods, after=()):
    optimizer = torch.optim.SGD(ddp.parameters(), lr=0.5)
    moved = [p.detach().clone() for p in ddp.parameters()]
    for step in range(steps):
        backward(ddp, batch(name, 1000 * dist.get_rank() + step))
        # The counter slows every operation down: it watches two steps, one of them with rejuvenation.
        with CommDebugMode() if step in (0, 9) else nullcontext() as talk:
            for method in methods:
                getattr(ddp.module, method)()
            optimizer.step()
            for method in (*after, *(["rejuvenate_weights"] if step % 10 == 9 else [])):
                getattr(ddp.module, method)()
        assert talk is None or talk.get_total_counts() == 0, talk.get_comm_counts()
    assert all((p != q).any() for p, q in zip(ddp.parameters(), moved, strict=True))


def alike(ddp, name):
    for key, parameter in ddp.module.named_parameters():
        assert parameter.isfinite().all(), (name, key)
        identical(parameter, f"{name} {key}")
    for i, bio in enumerate(layers(ddp.module)):
        for key, buffer in bio.named_buffers():
            identical(buffer, f"{name} {i} {key}")


def check_replicas(name, steps):
    ddp = wrapped(name)
    train(ddp, name, steps, GRADIENT, WEIGHTS)
    alike(ddp, name)
    report(f"{name}: {steps} steps")


def check_that_keys_matter():
    """The checks above can fail: with a key of its own, a replica parts from the others."""
    ddp = wrapped("mlp")
    for bio in layers(ddp.module):
        bio.key.add_(dist.get_rank())
    ddp.module.rejuvenate_weights()
    try:
        alike(ddp, "mlp")
    except AssertionError:
        return
    raise AssertionError("replicas with different keys should differ")


def check_the_counter():
    with CommDebugMode() as talk:
        dist.all_reduce(torch.ones(1))
    assert talk.get_total_counts() == 1


# Earlier versions of torch have one switch for the start and for every step.
SWITCH = "forward_sync_buffers"
if SWITCH not in inspect.signature(DistributedDataParallel).parameters:
    SWITCH = "broadcast_buffers"


def check_activity(broadcast):
    """Counts pooled after the forward pass are those of all processes, and the replicas stay the same."""
    torch.manual_seed(0 if SWITCH == "broadcast_buffers" else dist.get_rank())
    model = convert(NETS["mlp"][0](), fuzzy_lr_distribution="activity")
    ddp = DistributedDataParallel(model, **{SWITCH: broadcast})
    everything, per_process = [bio.activation_count.double() for bio in layers(model)], dist.get_world_size()
    optimizer = torch.optim.SGD(ddp.parameters(), lr=0.05)
    for step in range(5):
        before = [bio.activation_count.clone() for bio in layers(model)]
        identical(torch.cat(before), "pooled counts")
        backward(ddp, batch("mlp", 1000 * dist.get_rank() + step))
        new = [bio.activation_count - count for bio, count in zip(layers(model), before, strict=True)]
        joined = torch.cat(new)
        dist.all_reduce(joined)
        everything = [e + n for e, n in zip(everything, joined.split([len(n) for n in new]), strict=True)]
        pool_activity(model)
        for bio, exact in zip(layers(model), everything, strict=True):
            # Every pooling rounds once, by half a count at most.
            assert (bio.activation_count - exact / per_process).abs().max() <= 0.5 * (step + 1)
        model.scale_grad()
        model.update_fuzzy_learning_rates()
        optimizer.step()
        alike(ddp, "activity")
    assert joined.max() > 0


if __name__ == "__main__":
    with processes():
        check_the_counter()
        for name in sys.argv[1:]:
            check_replicas(name, 100)
        check_activity(broadcast=True)
        check_activity(broadcast=False)
        check_that_keys_matter()
