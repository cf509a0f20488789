"""One training cycle: a step with mechanisms is the same step by ``attach`` and in a sweep, in every place."""

from functools import partial

import pytest
import torch
from torch import nn, optim

from funcbio import BioConfig, Mechanism, attach, sweep

CONFIG = BioConfig(fuzzy_lr_distribution="baseline", crystal_thresh=0.5, dampening_factor=0.3)
INPUTS = torch.linspace(-1, 1, 24).view(6, 4)
OPTIMIZERS = {
    "sgd": partial(optim.SGD, momentum=0.9, weight_decay=0.3),
    "adam": partial(optim.Adam, weight_decay=0.3),
    "adamw": partial(optim.AdamW, weight_decay=0.3),
    "rmsprop": partial(optim.RMSprop, weight_decay=0.3),
}


def halve(params, grads, state, /, *, key=None):
    return params, {name: 0.5 * grad for name, grad in grads.items()}, state


def pull(params, grads, state, /, *, key=None):
    return {name: 0.9 * weight - 0.1 * grads[name] for name, weight in params.items()}, grads, state


MECHANISMS = {
    "none": [],
    "crystallize": ["crystallize", Mechanism("fuzzy_learning_rates", where="gradient")],
    "crystallize on the update": ["crystallize", "fuzzy_learning_rates"],
    **{f"halve {place}": [Mechanism(halve, where=place)] for place in ("gradient", "update")},
    **{f"pull {place}": [Mechanism(pull, where=place)] for place in ("gradient", "update", "after")},
    "all": [Mechanism(halve, where="gradient"), Mechanism(halve, where="update"), Mechanism(pull, where="after")],
}


def network():
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(4, 6, bias=False), nn.Tanh(), nn.Linear(6, 2, bias=False)).double()


def loss(output, target):
    return output.square().mean()


def attached(make, mechanisms, steps):
    model = network()
    optimizer = make(model.parameters(), lr=0.05)
    if mechanisms:
        attach(optimizer, model, mechanisms, config=CONFIG)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(model(INPUTS.double()), None).backward()
        optimizer.step()
    return {name: weight.detach() for name, weight in model.named_parameters()}


def swept(make, mechanisms, steps):
    data = (INPUTS.double(), INPUTS.double())
    kept = {"seeds": 1, "steps": steps, "batch_size": len(INPUTS), "optimizer": make, "lr": 0.05}
    result = sweep(network, loss, data, mechanisms=mechanisms, config=CONFIG, **kept)
    return {name: value for name, value in result.member(0).items() if name.endswith("weight")}


@pytest.mark.filterwarnings("ignore:fuzzy_learning_rates should act on the update")
@pytest.mark.parametrize("mechanisms", MECHANISMS.values(), ids=MECHANISMS.keys())
@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
def test_a_step_by_attach_is_a_step_of_a_sweep(make, mechanisms):
    expected, steps = attached(make, mechanisms, 4), swept(make, mechanisms, 4)
    for name, weight in expected.items():
        torch.testing.assert_close(steps[name], weight, rtol=1e-9, atol=1e-9)
