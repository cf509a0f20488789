"""A network that keeps something from call to call elsewhere than in its buffers is no member as it is alone: said."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from funcbio import sweep

X = torch.randn(16, 6, generator=torch.Generator().manual_seed(2))
SAYS = "model should keep what its forward passes change in registered buffers"


class Net(nn.Module):
    """Linear, with something to keep, and a rule by which it changes and acts."""

    def __init__(self, start, act):
        super().__init__()
        self.layer, self.act = nn.Linear(6, 2), act
        start(self)

    def forward(self, x):
        return self.act(self, self.layer(x))


def number(net, out):
    net.kept *= 0.5
    return out * net.kept


def replaced(net, out):
    net.kept = net.kept * 0.5
    return out * net.kept


def counted(net, out):
    net.kept["calls"] += 1
    return out * net.kept["calls"]


def carried(net, out):
    out = out if net.kept is None else out + net.kept
    net.kept = out.detach()
    return out


def looked_at(net, out):
    net.kept = out.detach()
    return out


def made_once(net, out):
    net.kept = torch.full((2,), 0.5) if net.kept is None else net.kept
    return out * net.kept


def dropped(net, out):
    return F.dropout(out, 0.5, net.training)


def attribute(value):
    return lambda net: setattr(net, "kept", value() if callable(value) else value)


def buffer(net):
    net.register_buffer("kept", torch.ones(()))


def normed(net):
    net.kept = nn.BatchNorm1d(2)


REMEMBER = {
    "number": (attribute(1.0), number),
    "tensor": (attribute(lambda: torch.ones(())), replaced),
    "tensor in place": (attribute(lambda: torch.ones(())), number),
    "dictionary": (attribute(lambda: {"calls": 0}), counted),
    "hidden state": (attribute(None), carried),
}
DO_NOT = {
    "buffer": (buffer, replaced),
    "buffer in place": (buffer, number),
    "what is looked at later": (attribute(None), looked_at),
    "what is made at the first call": (attribute(None), made_once),
    "dropout": (attribute(None), dropped),
    "batch norm": (normed, lambda net, out: net.kept(out)),
    "nan": (attribute(None), lambda net, out: out * float("nan")),
}


def run(parts, **options):
    given = {"steps": 2, "batch_size": 8, "lr": 0.1, "seeds": 2, "progress": False}
    return sweep(lambda: Net(*parts), F.mse_loss, (X, X[:, :2]), **{**given, **options})


@pytest.mark.parametrize("name", REMEMBER)
@pytest.mark.filterwarnings("ignore:this model trains member by member")
def test_a_network_that_remembers_is_told_apart(name):
    with pytest.warns(UserWarning, match=SAYS) as seen:
        run(REMEMBER[name])
    assert sum(SAYS in str(warning.message) for warning in seen) == 1
    assert all(warning.filename == __file__ for warning in seen if SAYS in str(warning.message))


@pytest.mark.parametrize("name", DO_NOT)
def test_one_that_does_not_is_not_warned_of(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(DO_NOT[name])
