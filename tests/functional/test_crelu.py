"""CReLU: both parts of every unit."""

import copy
import pickle

import pytest
import torch
from torch import nn

from funcbio import CReLU, units


def test_both_parts_stand_side_by_side():
    x = torch.tensor([[1.0, -2.0, 0.0]])
    assert torch.equal(CReLU()(x), torch.tensor([[1.0, 0.0, 0.0, 0.0, 2.0, 0.0]]))


def test_channels_of_images_are_doubled():
    x = torch.randn(2, 3, 4, 4)
    y = CReLU(dim=1)(x)
    assert y.shape == (2, 6, 4, 4)
    assert torch.equal(y[:, :3] - y[:, 3:], x)


def test_no_unit_is_silent_in_both_parts():
    x = torch.randn(50, 7)
    assert bool((CReLU()(x).unflatten(-1, (2, 7)).sum(1) > 0).all())


def test_units_are_known_through_it():
    net = nn.Sequential(nn.Linear(2, 3), CReLU(), nn.Linear(6, 1))
    (edge,) = units(net, torch.randn(4, 2))["0.weight"].edges
    assert edge.owner.tolist() == [0, 1, 2, 0, 1, 2]
    assert bool(edge.exclusive.all())


@pytest.mark.parametrize("dim", [1.0, None, True])
def test_the_dimension_is_an_integer(dim):
    with pytest.raises(ValueError, match="dim should be an integer"):
        CReLU(dim)


def test_it_is_copied_pickled_compiled_and_exported():
    layer, x = CReLU(1), torch.randn(2, 3, 4)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(other(x), layer(x))
    assert torch.equal(torch.compile(layer, backend="aot_eager", fullgraph=True)(x), layer(x))
    assert torch.equal(torch.export.export(layer, (x,)).module()(x), layer(x))
    assert repr(layer) == "CReLU(dim=1)"


def test_its_gradient_is_that_of_its_parts():
    x = torch.tensor([2.0, -3.0], requires_grad=True)
    (CReLU()(x) * torch.tensor([1.0, 10.0, 100.0, 1000.0])).sum().backward()
    assert x.grad.tolist() == [1.0, -1000.0]
