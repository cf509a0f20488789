"""Whatever a sweep is given, it says what should be, before anything is trained."""

import itertools
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from funcbio import BioConfig, ConfigError, IdleWarning, Mechanism, sweep

X = torch.randn(16, 3)
Y = X[:, :1]


def untouched():
    raise AssertionError("nothing should be trained")


def good(**changes):
    arguments = {"model": untouched, "loss": F.mse_loss, "data": (X, Y), "steps": 2, "batch_size": 4, "seeds": 2}
    return sweep(**{**arguments, **changes})


class Update:
    """An optimizer that lacks ``init``."""

    def update(self, grads, state, params=None):
        return grads, (state, params)


BAD = {
    "steps": ([0, -1, 1.5, True, None], r"steps should be an integer >= 1; found"),
    "batch_size": ([0, 17, "4"], r"batch_size should be"),
    "record_every": ([0, 2.0], r"record_every should be an integer >= 1"),
    "seeds": ([0, -3, 1.5, True, [], [1, 1], [True, 0], [0.5], "12", None], r"seeds should be an integer >= 1, or one"),
    "chunk": ([0, "all", 2.5], r"chunk should be an integer >= 1"),
    "compile": (["no", 1], r"compile should be True, False or 'auto'"),
    "save_seconds": ([-1, "x", float("nan"), None], r"save_seconds should be a number >= 0"),
    "device": (["gpu", 3.5], r"device should be one that torch knows"),
    "share": (["weights", ["weight"], [1]], r"share should be a list, and hold some of weights, rates, batches, noise"),
    "loss": ([None, "mse"], r"loss should be a function"),
    "model": ([nn.Linear, 3], r"."),
    "data": ([None, X, (X,), (X, 3), (X, Y[:3]), (torch.tensor(1.0), Y), (X[:0], Y[:0]), "xy"], r"data should be"),
    "test": ([X, (X,), (X, Y[:3]), lambda key: (X, Y)], r"test should be"),
    "metrics": ([[F.l1_loss], {"l1": 3}, {"loss": F.l1_loss}], r"metrics should be functions by name, not named loss"),
    "optimizer": (["SGD", torch.optim.LBFGS, Update(), partial(torch.optim.SGD, momentun=1)], r"optimizer should be"),
    "lr": ([-1.0, "fast", float("inf")], r"lr should be a number >= 0"),
    "mechanisms": (
        ["crystallize", 3, {}, {"bio": "crystallize"}, ["enforce_dales_principle"], ["scale_grad"], [3]],
        r"mechanisms|feature should be",
    ),
    "grid": (
        [
            {"momentun": [1]},
            {"lr": []},
            {"lr": 0.1},
            {"lr": "12"},
            [3],
            [{"lr": 1.0}, {"base_lr": 0.1}],
            "lr",
            {"lr": [-1]},
        ],
        r"grid|lr should be",
    ),
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, (values, _) in BAD.items() for value in values])
def test_a_bad_argument_is_named(name, value):
    with pytest.raises((ValueError, TypeError), match=BAD[name][1]):
        good(**{name: value})


def test_an_unknown_hyper_parameter_is_refused_with_the_nearest_known_one():
    with pytest.raises(
        ValueError, match="grid should name hyper-parameters, perhaps dampening_factor; found 'dampning"
    ):
        good(grid={"dampning_factor": [0.5]})
    with pytest.raises(ConfigError, match="dampening_factor should be a number in"):
        good(grid={"dampening_factor": [0.5, 2.0]})
    with pytest.raises(ValueError, match=r"grid\['mechanisms'\] should be among plain, bio; found 'boi'"):
        good(mechanisms={"plain": [], "bio": ["crystallize"]}, grid={"mechanisms": ["boi"]})


def test_metrics_without_test_data_are_refused():
    with pytest.raises(ValueError, match="test should be given with metrics"):
        good(metrics={"l1": F.l1_loss})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("cristallize",), "feature should be one of .*crystallize"),
        ((3,), "feature should be the name of a method or a function"),
        (("crystallize", 0), "every should be an integer >= 1; found 0"),
        (("crystallize", 1, "before"), "where should be one of gradient, update, after; found 'before'"),
    ],
)
def test_a_bad_mechanism_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        Mechanism(*arguments)


def test_a_model_without_anything_to_train_is_refused():
    with pytest.raises(ValueError, match="model should have a parameter that requires a gradient"):
        good(model=lambda: nn.Linear(3, 1).requires_grad_(False))
    with pytest.raises(ValueError, match=r"model should return an nn\.Module when called; found 3"):
        good(model=lambda: 3)


def test_members_that_differ_in_shape_are_refused():
    sizes = itertools.count(1)
    with pytest.raises(ValueError, match="model should make the same network for every member"):
        good(model=lambda: nn.Sequential(nn.Linear(3, next(sizes)), nn.Flatten()), chunk=2)


def test_data_may_be_a_function_of_a_key():
    import funcbio

    def batch(key):
        x = funcbio.normal(key, (8, 3))
        return x, x.sum(-1, keepdim=True)

    found = good(model=lambda: nn.Linear(3, 1), data=batch, test=(X, X.sum(1, keepdim=True)), steps=200, lr=0.1)
    assert max(found.table["test_loss"]) < 1e-3


def test_two_sweeps_of_one_kind_of_trial_with_their_own_step_numbers():
    """A period counts steps, from 1."""
    config = BioConfig(rejuvenation_parameter_dre=1e-6)
    options = {"model": lambda: nn.Linear(3, 2), "data": (X, X[:, :2]), "config": config, "steps": 2, "lr": 0.0}
    always = good(**options, mechanisms=[Mechanism("rejuvenate_weights", every=2)])
    with pytest.warns(IdleWarning, match="rejuvenate_weights should act by step 2, the last one; found every=3"):
        never = good(**options, mechanisms=[Mechanism("rejuvenate_weights", every=3)])
    assert not torch.equal(always.params["weight"], never.params["weight"])
    assert torch.equal(always.params["bias"], never.params["bias"])
