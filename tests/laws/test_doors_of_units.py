"""Mechanisms on units: the same by every door, with all that they keep."""

import copy

import pytest
import torch
from optree import tree_map
from torch import nn, optim
from torch.nn.functional import cross_entropy

from funcbio import BioConfig, BioConverter, attach, bind, key, observe, sweep, synapses, trees, units
from funcbio.functional._signals import statistics_of_new
from funcbio.mechanisms import ROWS

FEATURES = [name for name, row in ROWS.items() if row.by_unit]
CONFIG = BioConfig(
    redo_every=1,
    redo_threshold=0.1,
    continual_backprop_replacement_rate=0.3,
    continual_backprop_maturity=1,
    continual_backprop_decay=0.9,
    regrama_every=1,
    regrama_threshold=0.5,
    self_normalized_resets_patience=1,
    calibrated_partial_resets_every=1,
    calibrated_partial_resets_threshold=0.9,
    calibrated_partial_resets_replacement_rate=0.2,
)
X = torch.randn(8, 1, 5, 5, generator=torch.Generator().manual_seed(0))
Y = torch.arange(8) % 3
STEPS = 5
every_feature = pytest.mark.parametrize("name", FEATURES)


def net(seed=0):
    """A convolution with a norm that feeds two layers in a row; unit 2 of the first never responds."""
    torch.manual_seed(seed)
    head = (nn.Flatten(), nn.Linear(36, 6), nn.Tanh(), nn.Linear(6, 3))
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), *head)
    with torch.no_grad():
        model[1].bias[2] = -100.0
    return model


def close(first, second):
    assert first.keys() == second.keys()
    for name in first:
        torch.testing.assert_close(
            first[name], second[name], rtol=1e-5, atol=1e-6, equal_nan=True, msg=lambda m, name=name: f"{name}: {m}"
        )


def values(model):
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def statistics(model):
    named = dict(model.named_buffers())
    return {f"1.{name}": named[f"1.{name}"].clone() for name in ("running_mean", "running_var", "num_batches_tracked")}


def doors(name):
    """An attached plain model, and a converted one, with gradient descent that does not move: how each goes on."""
    attached, converted = net(), BioConverter(CONFIG)(net())
    for model, config in ((attached, CONFIG), (converted, None)):
        optimizer = optim.SGD(model.parameters(), lr=0.0)
        handle = attach(optimizer, model, [name], config=config, units=units(net(), X))
        yield model, optimizer, handle


def step(model, optimizer):
    optimizer.zero_grad()
    cross_entropy(model(X), Y).backward()
    optimizer.step()


@every_feature
def test_an_attached_step_is_the_pure_function(name):
    replaced = 0
    for model, optimizer, handle in doors(name):
        table, call = units(net(), X), observe(net(), config=CONFIG, units=units(net(), X))
        feature = bind(net(), CONFIG, units=table).__getattr__(name)
        for _ in range(STEPS):
            params, _, state = tree_map(torch.clone, handle.trees())
            own_key, buffers = model[0].bio_mod.key.clone(), statistics(model)
            _, signals = call(params, X, buffers=buffers, state=state)
            step(model, optimizer)
            grads = {n: p.grad for n, p in model.named_parameters()}
            expected, _, after = feature(params, grads, signals.into(state), key=own_key)
            found, _, kept = handle.trees()
            close(found, expected)
            assert kept.units.keys() == after.units.keys()
            for field in kept.units:
                close(kept.units[field], after.units[field])
            close(statistics(model), statistics_of_new(table, after, buffers))
            if name != "calibrated_partial_resets":
                close(kept.replaced, after.replaced)
            assert dict(kept.calls or {}) == dict(after.calls or {})
            replaced += sum(int(new.sum()) for new in after.units["unit_new"].values())
        close(trees(model)[0], found)
        assert trees(model)[2].units.keys() == kept.units.keys()
    assert (replaced > 0) == (name != "calibrated_partial_resets")


@every_feature
def test_a_converted_model_is_a_plain_one(name):
    runs = []
    for model, optimizer, handle in doors(name):
        for _ in range(STEPS):
            step(model, optimizer)
        runs.append(({**values(model), **statistics(model)}, handle.trees()[2].units))
    (first, kept), (second, further) = runs
    assert first.keys() == second.keys()
    for n in first:
        assert torch.equal(first[n], second[n]), n
    for field in kept:
        close(kept[field], further[field])
    before = values(net())
    assert any(not torch.equal(first[n], before[n]) for n in before)


@every_feature
@pytest.mark.parametrize("outgoing", ["zero", "keep"])
def test_a_sweep_of_one_is_the_attached_run(name, outgoing):
    """All but the numbers that are drawn."""
    field = f"{name}_outgoing"
    config = CONFIG.replace(**{field: outgoing}) if hasattr(CONFIG, field) else CONFIG
    config = config.replace(continual_backprop_maturity=0, regrama_every=1)
    steps = 2 if name == "self_normalized_resets" else 1  # Up to the first units that are replaced.
    model = net()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    table = units(net(), X)
    handle = attach(optimizer, model, [name], config=config, units=table)
    found = sweep(
        net,
        cross_entropy,
        (X, Y),
        steps=steps,
        batch_size=8,
        lr=0.1,
        mechanisms=[name],
        config=config,
        seeds=2,
        share=["weights"],
        units=table,
        progress=False,
    )
    for _ in range(steps):
        step(model, optimizer)
    new = handle.trees()[2].units["unit_new"]
    masks = {}
    for population in table.populations:
        for part in population.parts:
            if part.role == "incoming" and population.name in new:
                soft = name == "calibrated_partial_resets"
                chosen = torch.ones_like(new[population.name]) if soft else new[population.name]
                masks[part.name] = part.spread(chosen, model.get_parameter(part.name).shape)
    for seed in range(2):
        member = found.member(seed)
        for n, weight in model.named_parameters():
            mask = masks.get(n, torch.zeros((), dtype=torch.bool)).expand(weight.shape)
            torch.testing.assert_close(
                torch.where(mask, 0.0, member[n]), torch.where(mask, 0.0, weight.detach()), rtol=1e-4, atol=1e-5
            )
            if mask.any() and not mask.all():
                assert not torch.equal(member[n][mask], weight[mask])
    if name != "calibrated_partial_resets":
        assert any(mask.any() for mask in masks.values())


@every_feature
def test_a_state_of_before_goes_on_by_another_door(name):
    """What an attached model has kept is what the pure function goes on with."""
    model, optimizer, handle = next(doors(name))
    for _ in range(2):
        step(model, optimizer)
    params, grads, state = copy.deepcopy(handle.trees())
    bound = bind(net(), CONFIG, units=units(net(), X))
    fresh = bound.init(params, key=key(0), keep=[name])
    assert {field: tree.keys() for field, tree in state.units.items()} == {
        field: tree.keys() for field, tree in fresh.units.items()
    }
    for field, tree in fresh.units.items():
        for population, value in tree.items():
            kept = state.units[field][population]
            assert (kept.shape, kept.dtype) == (value.shape, value.dtype)
    found = getattr(bound, name)(params, grads, state, key=key(1))
    assert found[0].keys() == params.keys()
    assert synapses(net()).keys() <= params.keys()
