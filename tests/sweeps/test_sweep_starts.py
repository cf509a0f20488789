"""Seeds differ in their initial weights, or a sweep says that they do not."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from funcbio import IdleWarning, sweep

X = torch.randn(16, 3, generator=torch.Generator().manual_seed(1))


def net():
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))


def run(make, seeds=3, **options):
    given = {"steps": 1, "batch_size": 16, "lr": 0.0, "progress": False}
    return sweep(make, F.mse_loss, (X, X[:, :1]), seeds=seeds, **{**given, **options})


def starts(found):
    """Number of different losses, apart from rounding by the order of examples."""
    return len({round(loss, 4) for loss in found.table["train_loss"]})


def fixed():
    torch.manual_seed(0)
    return net()


def constant():
    made = nn.Linear(3, 1)
    nn.init.constant_(made.weight, 0.5)
    nn.init.zeros_(made.bias)
    return made


def headed(body):
    """A ready body with a new head."""
    return lambda: nn.Sequential(body, nn.Linear(1, 1))


READY = net()
ALIKE = {
    "copies of one": lambda: copy.deepcopy(READY),
    "a seed of its own": fixed,
    "constants": constant,
}


@pytest.mark.parametrize("name", ALIKE)
def test_a_factory_that_does_not_draw_says_so_once(name):
    with pytest.warns(IdleWarning, match="found the same weights for the seeds 0 and 1") as seen:
        found = run(ALIKE[name])
    assert len(seen) == 1
    assert starts(found) == 1


def test_one_network_returned_twice_is_refused():
    state = {name: value.clone() for name, value in READY.state_dict().items()}
    with pytest.raises(ValueError, match="model should make a new network whenever it is called"):
        run(lambda: READY)
    assert all(torch.equal(state[name], value) for name, value in READY.state_dict().items())


@pytest.mark.parametrize("make", [lambda: READY, *ALIKE.values()])
def test_what_is_meant_can_be_said(make):
    assert starts(run(make, share=["weights"])) == 1
    run(make, seeds=1)
    run(make, seeds=[4], grid={"momentum": [0.1, 0.2]})


def drawn_anew():
    for layer in (READY[0], READY[2]):
        layer.reset_parameters()
    return READY


@pytest.mark.parametrize("make", [net, headed(nn.Linear(3, 1)), drawn_anew])
def test_factories_that_draw_start_differently_and_say_nothing(make):
    assert starts(run(make)) == 3


def test_a_network_that_others_use_is_left_as_it_is():
    kept = nn.Sequential(nn.Embedding(5, 3, sparse=True), nn.Flatten(), nn.Linear(6, 1), nn.Dropout()).eval()
    kept[2].train()
    before = [module.training for module in kept.modules()]
    tokens = torch.randint(0, 5, (16, 2))
    sweep(lambda: kept, F.mse_loss, (tokens, X[:, :1]), steps=2, batch_size=8, lr=0.1, seeds=2, share=["weights"])
    assert [module.training for module in kept.modules()] == before
    assert kept[0].sparse
