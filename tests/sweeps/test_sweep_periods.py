"""Mechanisms that do not act in any step of a sweep say so; those that act once do not."""

import warnings
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import funcbio
from funcbio import BioConfig, IdleWarning, Mechanism
from funcbio.mechanisms import ROWS

X = torch.randn(40, 5, generator=torch.Generator().manual_seed(0))
Y = X[:, :3].argmax(1)
UNITS = 6


def net():
    return nn.Sequential(nn.Linear(5, UNITS), nn.ReLU(), nn.Linear(UNITS, 3))


def run(mechanisms, steps, config=None, **options):
    config = BioConfig() if config is None else config
    options = {"seeds": 1, "lr": 0.3, "batch_size": 8, "progress": False} | options
    return funcbio.sweep(net, F.cross_entropy, (X, Y), steps=steps, mechanisms=mechanisms, config=config, **options)


def warned(*args, **options):
    """A result, and the warnings of what is idle."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always", IdleWarning)
        result = run(*args, **options)
    return result, [str(one.message) for one in seen if one.category is IdleWarning]


def settings(feature, **values):
    return BioConfig(**{f"{feature}_{name}": value for name, value in values.items()})


FIRST = {
    "hare_and_tortoise": ("hare_and_tortoise", {"every": 4}, 4, "hare_and_tortoise_every=4"),
    "dash": ("dash", {"every": 4}, 4, "dash_every=4"),
    "redo": ("redo", {"every": 4, "threshold": 0.9}, 4, "redo_every=4"),
    "regrama": ("regrama", {"every": 4, "threshold": 0.9}, 4, "regrama_every=4"),
    "partial resets": ("calibrated_partial_resets", {"every": 4}, 4, "calibrated_partial_resets_every=4"),
    "patience": ("self_normalized_resets", {"patience": 3, "silent": 9.0}, 4, "self_normalized_resets_patience=3"),
    "learned patience": ("self_normalized_resets", {"every": 3, "silent": 9.0}, 4, "self_normalized_resets_every=3"),
    "maturity": (
        "continual_backprop",
        {"maturity": 3, "replacement_rate": 0.5},
        4,
        "continual_backprop_maturity=3",
    ),
    "rate": (
        "continual_backprop",
        {"maturity": 0, "replacement_rate": 0.5 / UNITS},
        2,
        f"continual_backprop_replacement_rate={0.5 / UNITS}",
    ),
    "rate in thirds": (
        "continual_backprop",
        {"maturity": 1, "replacement_rate": 1 / (3 * UNITS)},
        4,
        f"continual_backprop_replacement_rate={1 / (3 * UNITS)}",
    ),
}


def alike(one, other):
    return all(torch.equal(one.params[name], tensor) for name, tensor in other.params.items())


@pytest.mark.parametrize("name", FIRST)
def test_it_warns_exactly_where_nothing_changes(name):
    feature, values, first, cause = FIRST[name]
    config = settings(feature, **values)
    before, reasons = warned([feature], first - 1, config)
    assert alike(before, run([], first - 1))
    should = f"{feature} should act by step {first - 1}, the last one; found {cause}, so that it changes nothing"
    assert reasons == [should]
    then, reasons = warned([feature], first, config)
    assert reasons == []
    if name != "learned patience":  # What is learned may be as long as before.
        assert not alike(then, run([], first))


def test_every_mechanism_that_waits_is_tried():
    waiting = {name for name, row in ROWS.items() if row.counts_calls and {"every", "patience"} & {*row.defaults}}
    waiting |= {name for name, row in ROWS.items() if "maturity" in row.defaults}
    assert waiting == {feature for feature, *_ in FIRST.values()}


@pytest.mark.parametrize("name", sorted({feature for feature, *_ in FIRST.values()}))
def test_defaults_and_few_steps_change_nothing_and_say_so_once(name):
    _, reasons = warned({"plain": [], "k": [name], "again": [name]}, 3, seeds=2)
    assert len(reasons) == 1
    assert reasons[0].startswith(f"{name} should act by step 3, the last one; found {name}_")


def own(params, grads, state, /, *, key=None):
    return params, {name: 2.0 * grad for name, grad in grads.items()}, state


@pytest.mark.parametrize("feature", ["rejuvenate_weights", "shrink_and_perturb", own])
def test_periods_of_mechanisms_count_too(feature):
    found, reasons = warned([Mechanism(feature, every=4)], 3)
    named = feature if isinstance(feature, str) else "own"
    assert reasons == [f"{named} should act by step 3, the last one; found every=4, so that it changes nothing"]
    assert alike(found, run([], 3))
    assert warned([Mechanism(feature, every=3)], 3)[1] == []


def test_both_periods_multiply_and_both_are_named():
    config = settings("hare_and_tortoise", every=2)
    mechanism = Mechanism("hare_and_tortoise", every=2)
    assert warned([mechanism], 4, config)[1] == []
    _, reasons = warned([mechanism], 3, config)
    assert reasons == [
        "hare_and_tortoise should act by step 3, the last one; found every=2 and "
        "hare_and_tortoise_every=2, so that it changes nothing"
    ]


def test_a_grid_sets_periods():
    _, reasons = warned(["dash"], 3, grid={"dash_every": [2, 3]})
    assert reasons == []
    _, reasons = warned(["dash"], 3, grid={"dash_every": [2, 7, 9]}, seeds=2)
    assert [reason.partition("found ")[2] for reason in reasons] == [
        "dash_every=7, so that it changes nothing",
        "dash_every=9, so that it changes nothing",
    ]


def test_periods_in_a_partial_count_too():
    _, reasons = warned([partial(funcbio.dash, every=4)], 3)
    assert reasons == ["dash should act by step 3, the last one; found every=4, so that it changes nothing"]
    assert warned([partial(funcbio.dash, every=3)], 3)[1] == []


def test_a_replacement_that_is_drawn_may_come_at_once():
    config = settings("continual_backprop", maturity=2, replacement_rate=1e-6, accumulate=False)
    assert warned(["continual_backprop"], 3, config)[1] == []
    assert len(warned(["continual_backprop"], 2, config)[1]) == 1
