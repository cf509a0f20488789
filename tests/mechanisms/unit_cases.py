"""Small networks with tables of units by hand, and states with signals, for the tests of mechanisms on units."""

import torch
from tables import in_line
from torch import nn
from worlds import UNIT_MODELS

from funcbio import BioConfig, init, key, synapses


def values(model):
    """Copies of the parameters, by name."""
    return {name: param.detach().clone() for name, param in model.named_parameters()}


def state_of(model, table, keep, config=None, **fields):
    """A state with all that a mechanism keeps, and values of fields of units, of the first layer or by layer."""
    config = BioConfig() if config is None else config
    state = init(values(model), key=key(0), config=config, synapses=synapses(model), units=table, keep=[keep])
    given = {field: told if isinstance(told, dict) else {next(iter(table)): told} for field, told in fields.items()}
    kept = {
        field: {name: torch.as_tensor(v).to(state.units[field][name].dtype) for name, v in told.items()}
        for field, told in given.items()
    }
    if state.units == ():
        return state
    return state._replace(units={f: {**tree, **kept.get(f, {})} for f, tree in state.units.items()})


def small(hidden=4, *, activation=nn.ReLU):
    """Two layers, and their table."""
    net = nn.Sequential(nn.Linear(3, hidden), activation(), nn.Linear(hidden, 2))
    return net, in_line(net)


def convolutions():
    """Convolutions with norms, a grouped one, and a flatten; and their table."""
    make, norms, _ = UNIT_MODELS["cnn"]
    net = make()
    return net, in_line(net, norms)


def changed(before, after):
    """Masks of the entries that differ."""
    return {name: before[name] != after[name] for name in before}


def none_of(params):
    """Masks of no entry at all."""
    return {name: torch.zeros_like(value, dtype=torch.bool) for name, value in params.items()}
