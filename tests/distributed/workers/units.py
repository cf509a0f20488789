"""Mechanisms on units: replicas pool what their units sent, and act alike; shards are refused."""

import pytest
import torch
from group import close, identical, processes, report
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from funcbio import BioConfig, attach, units
from funcbio.mechanisms import ROWS

NAMES = [name for name, row in ROWS.items() if row.by_unit]
CONFIG = BioConfig(
    redo_every=2,
    redo_threshold=0.5,
    continual_backprop_replacement_rate=0.1,
    continual_backprop_maturity=1,
    regrama_every=2,
    regrama_threshold=0.5,
    self_normalized_resets_patience=1,
    self_normalized_resets_silent=0.3,
)


def net():
    torch.manual_seed(0)
    layers = [torch.nn.Linear(6, 16), torch.nn.ReLU(), torch.nn.Linear(16, 16), torch.nn.ReLU(), torch.nn.Linear(16, 4)]
    return torch.nn.Sequential(*layers)


def batch(number):
    return torch.randn(8, 6, generator=torch.Generator().manual_seed(number))


def attached(model, name, inner):
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    return optimizer, attach(optimizer, inner, [name], config=CONFIG, units=units(net(), batch(0)))


def check_replicas(mesh, name):
    """Each process sees data of its own, in two passes a step."""
    inner = net()
    optimizer, handle = attached(inner, name, inner)
    model, born = DistributedDataParallel(inner), 0
    for step in range(6):
        optimizer.zero_grad()
        for part in range(2):
            model(batch(100 * step + 10 * part + mesh.get_rank())).square().mean().backward()
        optimizer.step()
        for key, weight in inner.named_parameters():
            identical(weight, f"{name} {step} {key}")
        born += sum(int(new.count_nonzero()) for new in handle.trees()[2].units["unit_new"].values())
        for field, tree in handle.trees()[2].units.items():
            for key, value in tree.items():
                identical(value, f"{name} {step} {field} {key}")
    assert born or name == "calibrated_partial_resets", name  # Its units are new in part only.


def check_means(mesh):
    """What two processes pool is what one of them would see of both batches."""
    alone, replica = net(), net()
    one, expected = attached(alone, "redo", alone)
    other, found = attached(replica, "redo", replica)
    parts = [batch(number) for number in range(mesh.size())]
    alone(torch.cat(parts)).square().mean().backward()
    DistributedDataParallel(replica)(parts[mesh.get_rank()]).square().mean().backward()
    one.step(), other.step()
    for key, signal in expected.trees()[2].units["signal"].items():
        close(found.trees()[2].units["signal"][key], signal, key)


def check_shards(mesh):
    for name in NAMES:
        model = fully_shard(net(), mesh=mesh)
        table = units(net(), batch(0))
        with pytest.raises(ValueError, match="in shards"):
            attach(torch.optim.SGD(model.parameters(), 0.1), model, [name], units=table)
        assert not [key for key, _ in model.named_buffers() if "units" in key]


if __name__ == "__main__":
    with processes() as mesh:
        check_shards(mesh)
        report("shards")
        check_means(mesh)
        report("means")
        for name in NAMES:
            check_replicas(mesh, name)
            report(name)
