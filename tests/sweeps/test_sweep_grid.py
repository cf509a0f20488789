"""A grid is refused before training where its values could not be told apart or used; messages say what works."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import funcbio
from funcbio.sweeps._given import APART, GRID_HINTS

X = torch.randn(24, 4, generator=torch.Generator().manual_seed(0))
Y = X[:, :2].argmax(1)


def net(activation=nn.ReLU):
    return nn.Sequential(nn.Linear(4, 5), activation(), nn.Linear(5, 2))


def untouched():
    raise AssertionError("nothing should be trained")


def run(**options):
    arguments = {"model": net, "loss": F.cross_entropy, "data": (X, Y), "steps": 2, "batch_size": 8, "seeds": 2}
    return funcbio.sweep(**arguments | {"progress": False} | options)


def refused(message, **options):
    with pytest.raises(ValueError, match=message):
        run(model=untouched, **options)


TWICE = {
    "numbers": {"lr": [0.1, 0.1]},
    "number and array": {"lr": [0.5, np.float32(0.5)]},
    "number and tensor": {"lr": [0.5, torch.tensor(0.5)]},
    "array": {"lr": np.array([0.1, 0.2, 0.1])},
    "integer and float": {"base_lr": [1, 1.0]},
    "bool and integer": {"nesterov": [True, 1]},
    "text and member": {"fuzzy_lr_distribution": ["uniform", funcbio.Distribution.UNIFORM]},
    "combinations": [{"lr": 0.1, "base_lr": 0.2}, {"lr": 0.2, "base_lr": 0.2}, {"lr": 0.1, "base_lr": 0.2}],
    "another order": [{"lr": 0.1, "base_lr": 0.2}, {"base_lr": 0.2, "lr": 0.1}],
    "beside others": {"base_lr": [0.1, 0.2], "lr": [0.3, 0.3]},
}


@pytest.mark.parametrize("grid", TWICE.values(), ids=TWICE)
def test_a_combination_that_comes_twice_is_refused(grid):
    refused(r"grid should hold every combination once; found \{.*\} twice", grid=grid)


def test_lists_of_mechanisms_have_different_names():
    refused(r"mechanisms should be lists by different names; found \['1', '1'\]", mechanisms={1: [], "1": ["l2_init"]})
    refused("every combination once", mechanisms={"a": []}, grid={"mechanisms": ["a", "a"]})
    alike = run(mechanisms={"a": ["l2_init"], "b": ["l2_init"]})
    assert alike.compare("train_loss", by="mechanisms", baseline="a").difference.item() == 0.0


class Descent:
    """A functional optimizer."""

    def init(self, params):
        return ()

    def update(self, grads, state, params=None):
        return {name: -grad for name, grad in grads.items()}, state


SET_TWICE = {
    "lr": ({"lr": 0.2, "grid": {"lr": [0.1]}}, "lr=0.2"),
    "lr of an optimizer": ({"optimizer": partial(torch.optim.SGD, lr=0.2), "grid": {"lr": [0.1]}}, "lr=0.2"),
    "lr in combinations": ({"lr": 0.2, "grid": [{"lr": 0.1}]}, "lr=0.2"),
    "weight_decay": (
        {"optimizer": partial(torch.optim.Adam, weight_decay=0.1), "grid": {"weight_decay": [0.0]}},
        "weight_decay=0.1",
    ),
    "momentum": ({"optimizer": partial(torch.optim.SGD, momentum=0.9), "grid": {"momentum": [0.0]}}, "momentum=0.9"),
    "lr of functions": ({"optimizer": Descent(), "lr": 0.2, "grid": {"lr": [0.1]}}, "lr=0.2"),
}


@pytest.mark.parametrize("name", SET_TWICE)
def test_what_the_grid_sets_is_set_nowhere_else(name):
    options, found = SET_TWICE[name]
    key = found.partition("=")[0]
    refused(f"{key} should be left out where the grid sets it; found {found} beside it", **options)


def test_a_learning_rate_is_given_once():
    refused("lr should be given once; found lr=0.1 and 0.2", lr=0.1, optimizer=partial(torch.optim.SGD, lr=0.2))


def test_a_grid_goes_with_what_it_does_not_set():
    grid = {"lr": [0.1, 0.2], "base_lr": [0.5, 0.7]}
    config, optimizer = funcbio.BioConfig(base_lr=0.3), partial(torch.optim.SGD, momentum=0.9)
    found = run(grid=grid, config=config, optimizer=optimizer, mechanisms=["volume_dependent_lr"])
    assert found.table["base_lr"] == [0.5, 0.5, 0.7, 0.7] * 2


OTHER = {
    "model": partial(net, nn.Tanh),
    "loss": partial(F.cross_entropy, label_smoothing=0.1),
    "data": (X + 1.0, Y),
    "batch_size": 6,
    "optimizer": torch.optim.Adam,
    "newborn": "zero",
    "share": ["weights"],
    "synapses": ["0.weight"],
}


@pytest.mark.parametrize("name", OTHER)
def test_what_is_no_hyper_parameter_is_joined_as_the_message_says(name):
    hint = rf"found '{name}': run one sweep for each, and join them by result.label\({name}=\.\.\.\)$"
    refused(f"grid should name hyper-parameters; {hint}", grid={name: [1, 2]})
    one, other = run(), run(**{name: OTHER[name]})
    assert one.label(**{name: "a"}).join(other.label(**{name: "b"})).table[name] == ["a"] * 2 + ["b"] * 2


def test_every_argument_of_that_kind_is_tried():
    assert {*OTHER} == {*APART}


@pytest.mark.parametrize("name", sorted({*GRID_HINTS} - {*APART}))
def test_other_slips_get_a_hint(name):
    with pytest.raises(ValueError, match="grid should name hyper-parameters; found") as error:
        run(model=untouched, grid={name: [1]})
    assert str(error.value).endswith(f"found {name!r}{GRID_HINTS[name]}")


def test_the_hints_work():
    run(mechanisms={"a": [], "b": ["l2_init"]}, seeds=[3, 4], record_every=1, grid={"base_lr": [0.1], "lr": [0.2]})
    assert run(folds=[(range(12), range(12, 24))]).hyper == ("fold",)


@pytest.mark.parametrize("seed", [2**64, 2**70, -(2**63) - 1, -(2**70)])
def test_a_seed_that_is_too_large_is_named(seed):
    refused(f"seeds should be integers of at most 64 bits; found {seed}", seeds=[0, seed])


@pytest.mark.parametrize("seed", [2**64 - 1, -(2**63)])
def test_the_largest_seeds_train(seed):
    assert run(seeds=[seed]).table["seed"] == [seed]
