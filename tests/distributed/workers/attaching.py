"""Attached optimizers on shards equal one process, step by step, and keep replicas the same."""

import torch
from fsdp import compare, pair
from group import close, identical, processes
from nets import NETS, backward, batch, convert
from torch.nn.parallel import DistributedDataParallel

from funcbio import Mechanism, attach
from funcbio.engine._options import OPTIONS
from funcbio.tensors._sharding import whole

MECHANISMS = [
    Mechanism("crystallize", where="gradient"),
    "volume_dependent_lr",
    "fuzzy_learning_rates",
    "rejuvenate_weights",
    "enforce_dales_principle",
]
OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, 1e-2, foreach=True),
}


def check_shards(mesh, order, name, most):
    """The first step, and the state it leaves: later ones would add up roundings."""
    OPTIONS.update_elements = most
    alone, model = pair("mlp", mesh, order)
    optimizers = [OPTIMIZERS[name](each.parameters()) for each in (alone, model)]
    model(batch("mlp", 9))  # Now the weights lie gathered.
    handles = [
        attach(optimizer, each, MECHANISMS, ages=True, fresh_rates=True)
        for optimizer, each in zip(optimizers, (alone, model), strict=True)
    ]
    for each in (alone, model):
        backward(each, batch("mlp", 0))
    for optimizer in optimizers:
        optimizer.step()
    where = f"{order} {name} {most}"
    compare(alone, model, where)
    expected, found = (handle.trees()[2] for handle in handles)
    for key, age in expected.age.items():
        close(found.age[key], age, f"{where} age of {key}")
        assert (age == 0).equal(whole(found.replaced[key]).cpu())
    for one, other in zip(optimizers[0].state.values(), optimizers[1].state.values(), strict=True):
        for key, value in one.items():
            close(other[key], value, f"{where} {key}")
    handles[1].load_state_dict(handles[1].state_dict())


def check_replicas(mesh):
    """Each process with data of its own."""
    torch.manual_seed(7)
    model = DistributedDataParallel(convert(NETS["mlp"][0]()))
    optimizer = OPTIMIZERS["adam"](model.parameters())
    handle = attach(optimizer, model, MECHANISMS)
    for step in range(4):
        optimizer.zero_grad()
        model(batch("mlp", 2 * step + mesh.get_rank())).square().mean().backward()
        optimizer.step()
    assert handle.steps == 4
    for name, value in model.state_dict().items():
        identical(value, name)


if __name__ == "__main__":
    with processes() as mesh:
        for order in ("before", "after"):
            for name in OPTIMIZERS:
                for most in (1, 1 << 22):
                    check_shards(mesh, order, name, most)
        check_replicas(mesh)
