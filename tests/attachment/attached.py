"""Small models, data and optimizers that the tests of ``attach`` train with."""

import copy
import itertools

import torch
from torch import nn, optim

from funcbio import BioConverter

EVERY_STATE = {
    "apply_dales_principle": True,
    "record_activity": True,
    "fuzzy_lr_dynamic": True,
    "fuzzy_lr_distribution": "temporal",
    "fuzzy_lr_update_freq": 1,
}
OPTIMIZERS = {
    "sgd": lambda p: optim.SGD(p, 0.05, momentum=0.9, weight_decay=1e-2),
    "sgd foreach": lambda p: optim.SGD(p, 0.05, momentum=0.9, foreach=True),
    "sgd fused": lambda p: optim.SGD(p, 0.05, momentum=0.9, fused=True),
    "adam": lambda p: optim.Adam(p, 1e-2, amsgrad=True),
    "adam foreach": lambda p: optim.Adam(p, 1e-2, foreach=True),
    "adam fused": lambda p: optim.Adam(p, 1e-2, fused=True),
    "adamw": lambda p: optim.AdamW(p, 1e-2),
    "adamw foreach": lambda p: optim.AdamW(p, 1e-2, foreach=True),
    "adamw fused": lambda p: optim.AdamW(p, 1e-2, fused=True),
    "rmsprop": lambda p: optim.RMSprop(p, 1e-3, momentum=0.9, centered=True),
    "rmsprop foreach": lambda p: optim.RMSprop(p, 1e-3, foreach=True),
    "adagrad": lambda p: optim.Adagrad(p, 1e-2, initial_accumulator_value=0.1),
    "adagrad fused": lambda p: optim.Adagrad(p, 1e-2, fused=True),
    "nadam": lambda p: optim.NAdam(p, 1e-2),
    "nadam foreach": lambda p: optim.NAdam(p, 1e-2, foreach=True),
    "radam": lambda p: optim.RAdam(p, 1e-2),
    "radam foreach": lambda p: optim.RAdam(p, 1e-2, foreach=True),
    "adadelta": lambda p: optim.Adadelta(p, 1.0),
    "adadelta foreach": lambda p: optim.Adadelta(p, 1.0, foreach=True),
    "adamax": lambda p: optim.Adamax(p, 1e-2),
    "adamax foreach": lambda p: optim.Adamax(p, 1e-2, foreach=True),
    "asgd": lambda p: optim.ASGD(p, 1e-2, t0=2),
    "asgd foreach": lambda p: optim.ASGD(p, 1e-2, foreach=True),
    "rprop": lambda p: optim.Rprop(p, 1e-2),
    "rprop foreach": lambda p: optim.Rprop(p, 1e-2, foreach=True),
    "adafactor": lambda p: optim.Adafactor(p, 1e-2),
    "muon": lambda p: optim.Muon([q for q in p if q.ndim == 2], 1e-2),
}


def net(sizes=(6, 12, 8, 3), seed=0):
    """A multi-layer perceptron, the same for the same seed."""
    torch.manual_seed(seed)
    layers = []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.Tanh()]
    return nn.Sequential(*layers[:-1])


def bio_net(seed=0, sizes=(6, 12, 8, 3), **config):
    """The same, converted."""
    model = net(sizes, seed)
    return BioConverter(**config)(model)


def batch(number, inputs=6):
    """The batch of a step."""
    return torch.randn(16, inputs, generator=torch.Generator().manual_seed(number))


def loss_of(model, number):
    """The loss of a step: far from its minimum for long."""
    x = batch(number).to(next(model.parameters()).dtype)
    return (model(x) - x[:, :3].cos()).square().mean()


def train(model, optimizer, steps, start=0):
    """Plain training; returns the model."""
    for number in range(start, start + steps):
        optimizer.zero_grad()
        loss_of(model, number).backward()
        optimizer.step()
    return model


def weights(model):
    """All parameters, as they are now."""
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def everything(model):
    """All parameters and buffers, as they are now."""
    return copy.deepcopy(model.state_dict())


def same(first, second):
    """Asserts that two dictionaries of tensors agree to the last bit."""
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


def distance(first, second):
    """Relative difference of all synapses together."""
    names = [name for name in first if first[name].ndim > 1]
    difference = sum((first[name] - second[name]).square().sum() for name in names)
    return float((difference / sum(first[name].square().sum() for name in names)).sqrt())
