"""A unit that may be replaced is out of use once the columns that it alone feeds are zero, whatever its weights are."""

import pytest
import torch
from architectures import ARCHITECTURES
from torch import nn
from torch.func import functional_call

from funcbio import units

MIXING = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm)
"""Norms that let a unit scale the others; a table takes them for the identity, and so does this test."""


def made(name):
    """A model without such norms, in float64, an example, and the populations some unit of which may be replaced."""
    torch.manual_seed(0)
    net = ARCHITECTURES[name]
    model = net.make().double().eval()
    table = units(model, *net.example)
    for module in model.modules():
        if isinstance(module, MIXING):
            module.forward = lambda x: x
    example = [torch.randn_like(one, dtype=torch.float64) if one.is_floating_point() else one for one in net.example]
    return model, example, [one for one in table.values() if bool(one.replaceable.any())]


def tensors_of(model):
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def changed(tensors, population, chosen):
    """The model's tensors with other weights, biases and entries of norms of a unit."""
    new = dict(tensors)
    for part in population.parts:
        if part.name in new and part.role not in ("mean", "variance"):
            mask = part.spread(chosen, new[part.name].shape)
            new[part.name] = torch.where(mask, torch.randn_like(new[part.name]) + 3.0, new[part.name])
    return new


def cut(tensors, population, chosen):
    """The same, the columns that a unit feeds alone zero."""
    new = dict(tensors)
    for edge in population.edges:
        mask = edge.spread(chosen, new[edge.weight].shape)
        new[edge.weight] = torch.where(mask, 0.0, new[edge.weight])
    return new


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_replaceable_units_are_out_of_use_behind_columns_of_zero(name):
    model, example, populations = made(name)
    tensors = tensors_of(model)
    for population in populations:
        for unit in population.replaceable.nonzero().flatten():
            chosen = torch.arange(population.size) == unit
            before = functional_call(model, cut(tensors, population, chosen), (*example,))
            after = functional_call(model, cut(changed(tensors, population, chosen), population, chosen), (*example,))
            torch.testing.assert_close(after, before, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if "GLU" not in name and name != "maxout"])
def test_replaceable_units_matter_before(name):
    model, example, populations = made(name)
    assert populations or "twice" in name
    tensors = tensors_of(model)
    before = functional_call(model, tensors, (*example,))
    others = [changed(tensors, population, population.replaceable) for population in populations]
    after = [functional_call(model, one, (*example,)) for one in others]
    assert not populations or not all(torch.equal(one, before) for one in after)
