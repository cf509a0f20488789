"""Functions of the user's own: what they return is checked, and written back as a pure function would."""

from functools import partial

import pytest
import torch
from torch import nn, optim

from funcbio import BioConfig, BioConverter, Mechanism, attach, sweep

PLACES = ("gradient", "update", "after")
FLAT = BioConfig(fuzzy_lr_distribution="baseline")


def two_layers():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)).double()
    for number, parameter in enumerate(model.parameters(), 1):
        parameter.grad = torch.full_like(parameter, float(number))
    return model


def mixed(params, grads, state, /, *, key=None):
    """Returns every tree's leaves in the places of the others'."""
    first, second = params
    new = {first: grads[second], second: params[first]}, {first: params[second], second: grads[first]}
    return *new, state._replace(rate={first: state.rate[second], second: state.rate[first]})


@pytest.mark.parametrize("where", PLACES)
def test_leaves_may_change_places(where):
    model = two_layers()
    old = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    grads = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    optimizer = optim.SGD(model.parameters(), lr=1.0)
    attach(optimizer, model, [Mechanism(mixed, where=where)], config=BioConfig(fuzzy_lr_distribution="uniform"))
    rates = [model[at].bio_mod.fuzzy_learning_rate_parameters.clone() for at in (0, 1)]
    optimizer.step()
    first, second = old
    if where == "gradient":  # The optimizer subtracts what came out as gradients from what came out as weights.
        expected = {first: grads[second] - old[second], second: old[first] - grads[first]}
    elif where == "update":
        expected = {first: -grads[second] + old[second], second: old[first] - grads[first]}
    else:
        expected = {first: grads[second], second: old[first] - grads[first]}
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.detach(), expected[name])
    assert torch.equal(model[0].bio_mod.fuzzy_learning_rate_parameters, rates[1])
    assert torch.equal(model[1].bio_mod.fuzzy_learning_rate_parameters, rates[0])


def test_a_transposed_leaf_is_written_back_too():
    def turned(params, grads, state, /, *, key=None):
        return {name: weight.t() for name, weight in params.items()}, grads, state

    model = two_layers()
    before = model[0].weight.detach().clone()
    BioConverter(FLAT).expose(turned)(model).turned()
    assert torch.equal(model[0].weight, before.t())


def test_a_function_runs_within_vmap_as_a_method():
    def halved(params, grads, state, /, *, key=None):
        return {name: 0.5 * weight for name, weight in params.items()}, grads, state

    layer = BioConverter(FLAT).expose(halved, needs_grad=False)(nn.Linear(3, 2))

    def run(weight):
        kept, layer._parameters["weight"] = layer.weight, weight
        try:
            layer.bio_mod.halved()
            return 1.0 * weight
        finally:
            layer._parameters["weight"] = kept

    assert torch.equal(torch.vmap(run)(torch.ones(4, 2, 3)), torch.full((4, 2, 3), 0.5))


def test_a_function_that_changes_nothing_leaves_every_counter_alone():
    def nothing(params, grads, state, /, *, key=None):
        return params, grads, state

    model = two_layers()
    config = BioConfig(fuzzy_lr_distribution="temporal", fuzzy_lr_dynamic=True)
    optimizer = optim.SGD(model.parameters(), lr=0.0)
    attach(optimizer, model, ["update_fuzzy_learning_rates", "fuzzy_learning_rates", nothing], config=config)
    for number in range(4):
        model[0].requires_grad_(number >= 2)
        optimizer.step()
    assert [int(model[at].bio_mod.updates) for at in (0, 1)] == [2, 4]


def returning(name, what):
    def feature(params, grads, state, /, *, key=None):
        if what == "nothing":
            return None
        if what == "two":
            return params, grads
        if what == "no state":
            return params, grads, None
        if what == "a leaf less":
            return {first: params[first] for first in list(params)[:1]}, grads, state
        change = {
            "one number": lambda leaf: leaf.mean(),
            "one row": lambda leaf: leaf[:1],
            "integers": lambda leaf: leaf.long(),
            "floats": lambda leaf: 1.0,
            "another shape": lambda leaf: torch.ones(9, 9),
        }[what]
        trees = {"params": params, "grads": grads, "rate": state.rate}
        last = list(trees[name])[-1]
        new = {**trees, name: {**trees[name], last: change(trees[name][last])}}
        return new["params"], new["grads"], state._replace(rate=new["rate"])

    feature.__name__ = "strange"
    return feature


WRONG = [("", what) for what in ("nothing", "two", "no state", "a leaf less")] + [
    (name, what)
    for name in ("params", "grads", "rate")
    for what in ("one number", "one row", "integers", "floats", "another shape")
    if (name, what) != ("rate", "one number")  # A leaf of no dimensions marks what is left alone.
]


def by_attach(feature, model, where):
    optimizer = optim.SGD(model.parameters(), lr=0.0)
    attach(optimizer, model, [Mechanism(feature, where=where)], config=FLAT)
    return optimizer.step


def by_method(feature, model, where):
    converted = BioConverter(FLAT).expose(feature, needs_grad=where == "gradient")(model)
    return converted.strange


@pytest.mark.parametrize("door", [by_attach, by_method])
@pytest.mark.parametrize("where", ["gradient", "after"])
@pytest.mark.parametrize(("name", "what"), WRONG)
def test_a_result_that_does_not_fit_is_refused_before_anything_is_written(door, where, name, what):
    if (name == "grads" and where == "after") or (what == "a leaf less" and door is by_method):
        return  # There it is left alone; and a method is given a single leaf.
    model = two_layers()
    run = door(returning(name, what), model, where)
    before = [t.clone() for t in (*model.parameters(), *(p.grad for p in model.parameters()), *model.buffers())]
    with pytest.raises(ValueError, match=r"^strange should return (\(params, grads, state\)|trees like)"):
        run()
    after = [*model.parameters(), *(p.grad for p in model.parameters()), *model.buffers()]
    assert all(map(torch.equal, before, after))


@pytest.mark.parametrize(("name", "what"), WRONG)
def test_a_sweep_refuses_such_results_too(name, what):
    data = torch.ones(4, 3).double(), torch.ones(4, 3).double()
    run = partial(sweep, two_layers, nn.functional.mse_loss, data, steps=1, batch_size=4, seeds=1, config=FLAT)
    with pytest.raises(ValueError, match="strange should return"):
        run(mechanisms=[Mechanism(returning(name, what), where="gradient")])


def halve(params, grads, state, /, *, key=None, by=0.5):
    return params, {name: by * grad for name, grad in grads.items()}, state


@pytest.mark.parametrize("hyper", [{"by": "nope"}, {"nope": "base_lr"}, {"by": 0.5}])
def test_names_of_keywords_and_fields_are_checked_at_once(hyper):
    model = two_layers()
    with pytest.raises(
        ValueError, match=r"of halve should be set by a field of BioConfig|halve should take every keyword"
    ):
        attach(optim.SGD(model.parameters(), lr=0.1), model, ["crystallize", Mechanism(halve, hyper=hyper)])
    with pytest.raises(ValueError, match="halve should"):
        BioConverter().expose(halve, **hyper)
    assert not hasattr(model[0], "bio_mod")


@pytest.mark.parametrize("name", ["apply_dales_principle", "config", "synapse", "crystallize", "weight", "<lambda>"])
def test_a_feature_has_a_name_that_nothing_else_has(name):
    def feature(params, grads, state, /, *, key=None):
        return params, grads, state

    feature.__name__ = name
    with pytest.raises(ValueError, match="features should"):
        BioConverter().expose(feature)
    with pytest.raises(ValueError, match="features should be functions that have names"):
        BioConverter().expose(partial(feature))


def test_a_step_whose_function_fails_on_the_gradient_can_be_made_again():
    failures = [True, False]

    def flaky(params, grads, state, /, *, key=None):
        if failures.pop(0):
            raise RuntimeError("once")
        return params, grads, state

    def made(*own):
        model = two_layers()
        optimizer = optim.Adam(model.parameters(), lr=0.1)
        config = BioConfig(crystal_thresh=10.0, fuzzy_lr_distribution="uniform")
        torch.manual_seed(5)
        attach(optimizer, model, ["crystallize", "volume_dependent_lr", *own, "fuzzy_learning_rates"], config=config)
        return model, optimizer

    model, optimizer = made(flaky)
    before = [tensor.clone() for layer in model for tensor in layer.bio_mod.tensors()]
    with pytest.raises(RuntimeError, match="once"):
        optimizer.step()
    assert all(map(torch.equal, before, [tensor for layer in model for tensor in layer.bio_mod.tensors()]))
    optimizer.step()
    other, other_optimizer = made(lambda params, grads, state, /, *, key=None: (params, grads, state))
    other_optimizer.step()
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)
