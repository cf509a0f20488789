"""Parts that do not fit what a checkpoint holds are refused, and everything is as before."""

import copy

import pytest
import torch
from torch import nn, optim

from funcbio import load_checkpoint, save_checkpoint


def trained(units=4, make=optim.AdamW):
    torch.manual_seed(units)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, units))
    optimizer = make(model.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        model(torch.ones(3, 6)).square().sum().backward()
        optimizer.step()
    return model, optimizer


def held(*parts):
    return [str(part.state_dict()) for part in parts]


MISFITS = {
    "other weights": (lambda: {"optimizer": trained(5)[1]}, r"optimizer should have states .* \(4, 16\) .* \(5, 16\)"),
    "another optimizer": (lambda: {"optimizer": trained(4, optim.SGD)[1]}, "optimizer should be the .* no 'dampening'"),
    "an optimizer for a model": (lambda: {"model": trained()[1]}, "model should be an object like .* found AdamW"),
    "a model for a number": (lambda: {"step": trained()[0]}, "step should be a part that has a state"),
    "a model for a tree": (lambda: {"tree": trained()[0]}, "tree should be a part that has a state"),
}


@pytest.mark.parametrize("name", MISFITS)
def test_what_does_not_fit_is_refused_and_everything_is_as_before(name, tmp_path):
    make, message = MISFITS[name]
    model, optimizer = trained()
    saved = {"first": nn.Linear(2, 2), "model": model, "optimizer": optimizer, "step": 3, "tree": {"w": torch.ones(2)}}
    save_checkpoint(tmp_path / "run.pt", **saved)
    parts = {"first": nn.Linear(2, 2), **make()}
    before = held(*parts.values())
    with pytest.raises(ValueError, match=message):
        load_checkpoint(tmp_path / "run.pt", **parts)
    assert held(*parts.values()) == before


ALL = [
    optim.SGD,
    optim.Adam,
    optim.AdamW,
    optim.NAdam,
    optim.RAdam,
    optim.Adamax,
    optim.Adadelta,
    optim.Adagrad,
    optim.RMSprop,
    optim.Rprop,
    optim.ASGD,
    optim.Adafactor,
]


@pytest.mark.parametrize("make", ALL)
def test_every_optimizer_of_torch_goes_on(make, tmp_path):
    model, optimizer = trained(4, make)
    save_checkpoint(tmp_path / "run.pt", optimizer=optimizer)
    other = make(copy.deepcopy(model).parameters(), lr=0.3)
    load_checkpoint(tmp_path / "run.pt", optimizer=other)
    assert held(other) == held(optimizer)
