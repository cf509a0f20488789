"""An optimizer that goes up the negative loss is one that goes down the loss, for every mechanism."""

import copy
import warnings

import pytest
import torch
from torch import nn, optim

from funcbio import BioConfig, attach, units
from funcbio.mechanisms import ROWS

CONFIG = BioConfig(
    apply_dales_principle=True,
    record_activity=True,
    density=0.5,
    dash_every=2,
    hare_and_tortoise_every=2,
    l2_init_strength=0.5,
    parseval_strength=0.1,
    redo_every=2,
    redo_threshold=0.5,
    regrama_every=2,
    rejuvenation_fraction=0.1,
    rejuvenation_variant="swr",
    spectral_regularization_strength=0.1,
)
OPTIMIZERS = {"SGD": optim.SGD, "Adam": optim.Adam, "NAdam": optim.NAdam}
X = torch.randn(32, 6, generator=torch.Generator().manual_seed(0))
Y = torch.arange(32) % 3


def trained(make, mechanism, *, maximize):
    """Returns the parameters after steps down the loss, or up the negative loss."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    optimizer = make([{"params": net[0].parameters()}, {"params": net[2].parameters()}], lr=0.01, maximize=maximize)
    before = copy.deepcopy(net.state_dict())
    handle = attach(optimizer, net, [mechanism], config=CONFIG, units=units(net, X))
    for _ in range(6):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(X), Y)
        (-loss if maximize else loss).backward()
        grads = [parameter.grad.clone() for parameter in net.parameters()]
        optimizer.step()
    assert not any(torch.equal(before[name], value) for name, value in net.named_parameters())
    return handle, grads, [*net.parameters()]


@pytest.mark.parametrize("make", OPTIMIZERS)
@pytest.mark.parametrize("mechanism", [name for name in ROWS if name != "apply_dales_principle"])
def test_going_up_the_negative_loss_is_going_down_the_loss(mechanism, make):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        down = trained(OPTIMIZERS[make], mechanism, maximize=False)
        up = trained(OPTIMIZERS[make], mechanism, maximize=True)
    for one, other in zip(down[2], up[2], strict=True):
        torch.testing.assert_close(one, other)


def test_one_group_may_go_up_and_the_other_down():
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    groups = [{"params": net[0].parameters(), "maximize": True}, {"params": net[1].parameters()}]
    optimizer = optim.SGD(groups, lr=0.1)
    attach(optimizer, net, ["l2_init"], config=BioConfig(l2_init_strength=0.5))
    start = [parameter.detach().clone() for parameter in net.parameters()]
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 1.0
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for parameter, old in zip(net.parameters(), start, strict=True):
        assert ((parameter - old).abs() < 1.0).all()  # Both are pulled to their start.
