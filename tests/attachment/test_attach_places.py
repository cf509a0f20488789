"""Attached mechanisms, place by place: they do what their methods and the equation say."""

import warnings

import pytest
import torch
from attached import EVERY_STATE, OPTIMIZERS, batch, bio_net, distance, everything, loss_of, net, same, train, weights
from optree import tree_map
from torch import nn, optim

from funcbio import BioConfig, BioConverter, BioModule, Mechanism, attach, sweep
from funcbio.attachment import _update
from funcbio.engine._options import OPTIONS

RATES = BioConfig(fuzzy_learning_rate_factor_nu=0.4)
ONES = BioConfig(fuzzy_lr_distribution="baseline")
PLAIN = {
    "SGD": lambda p: optim.SGD(p, 0.05),
    "RMSprop": lambda p: optim.RMSprop(p, 1e-3),
    "Adam": lambda p: optim.Adam(p, 1e-3),
    "AdamW": lambda p: optim.AdamW(p, 1e-3),
    "Adagrad": lambda p: optim.Adagrad(p, 1e-2),
}


def at_gradient(feature, **options):
    return Mechanism(feature, where="gradient", **options)


def attached(make, mechanisms, model=None, **options):
    """A model, its optimizer, and the handle."""
    model = net() if model is None else model
    optimizer = make(model.parameters())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return model, optimizer, attach(optimizer, model, mechanisms, **options)


@pytest.mark.parametrize(
    ("optimizer", "least", "most"),
    [("SGD", 1e-3, 1), ("RMSprop", 1e-7, 1e-3), ("Adam", 0, 1e-6), ("AdamW", 0, 1e-6), ("Adagrad", 0, 1e-6)],
)
def test_factors_cancel_on_the_gradient_of_optimizers_that_divide_by_its_norm_and_never_on_the_update(
    optimizer, least, most
):
    """The table in docs/attach.md; ``least`` and ``most`` are limits of the difference that the gradient side makes."""
    make, plain, found = PLAIN[optimizer], net(), {}
    train(plain, make(plain.parameters()), 100)
    for where in ("gradient", "update"):
        model, steps, _ = attached(make, [Mechanism("fuzzy_learning_rates", where=where)])
        found[where] = distance(weights(plain), weights(train(model, steps, 100)))
    assert least <= found["gradient"] < most
    assert found["update"] > 1e-3


CHAIN = ["update_fuzzy_learning_rates", "volume_dependent_lr", "fuzzy_learning_rates", "scale_grad", "crystallize"]


@pytest.mark.filterwarnings("ignore:.* should act on the update of Adam:funcbio.IdleWarning")
@pytest.mark.parametrize("name", ["sgd", "adam fused"])
def test_on_the_gradient_it_is_calling_the_methods_before_the_step(name):
    by_hand, model = bio_net(**EVERY_STATE), bio_net(**EVERY_STATE)
    after = ["rejuvenate_weights", "enforce_dales_principle"]
    model, steps, _ = attached(OPTIMIZERS[name], [*map(at_gradient, CHAIN), *after], model)
    train(model, steps, 4)
    optimizer = OPTIMIZERS[name](by_hand.parameters())
    for number in range(4):
        optimizer.zero_grad()
        loss_of(by_hand, number).backward()
        for method in CHAIN:
            getattr(by_hand, method)()
        optimizer.step()
        replaced = by_hand.rejuvenate_weights()
        by_hand.enforce_dales_principle()
        for name, parameter in by_hand.named_parameters():
            for value in optimizer.state[parameter].values() if name in replaced else ():
                if torch.is_tensor(value) and value.shape == parameter.shape:
                    value[replaced[name]] = 0
    same(everything(model), everything(by_hand))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_with_rates_of_one_nothing_changes_but_rounding(name):
    plain, model = net(), net()
    model, steps, _ = attached(OPTIMIZERS[name], ["fuzzy_learning_rates"], model, config=ONES)
    optimizer = OPTIMIZERS[name](plain.parameters())
    for number in range(3):
        model.load_state_dict(plain.state_dict(), strict=False)  # So that roundings do not add up.
        train(plain, optimizer, 1, number)
        train(model, steps, 1, number)
        for one, other in zip(plain.parameters(), model.parameters(), strict=True):
            torch.testing.assert_close(other, one, rtol=3e-7, atol=3e-7)


@pytest.mark.parametrize("name", ["sgd", "adamw", "adam fused", "rmsprop"])
def test_on_the_update_it_is_the_equation(name):
    model, steps, handle = attached(OPTIMIZERS[name], ["fuzzy_learning_rates"], config=RATES)
    plain = net()
    optimizer = OPTIMIZERS[name](plain.parameters())
    before = weights(plain)
    train(plain, optimizer, 1)
    train(model, steps, 1)
    rates = handle.trees()[2].rate
    for name, new in weights(plain).items():
        factor = rates.get(name, torch.ones(()))
        torch.testing.assert_close(model.get_parameter(name).detach(), before[name] + factor * (new - before[name]))


def test_a_factor_of_zero_keeps_every_bit_of_the_old_weight():
    model, steps, handle = attached(OPTIMIZERS["adam"], ["fuzzy_learning_rates"])
    for bio in (m for m in model.modules() if isinstance(m, BioModule)):
        bio.fuzzy_learning_rate_parameters.zero_()
    before = {name: value for name, value in weights(model).items() if name in handle.trees()[0]}
    train(model, steps, 3)
    same({name: weights(model)[name] for name in before}, before)


def test_on_the_update_mechanisms_see_the_old_weight_and_the_update():
    seen = []

    def look(params, grads, state, /, *, key=None):
        seen.append(({n: w.clone() for n, w in params.items()}, {n: g.clone() for n, g in grads.items()}))
        return params, grads, state

    model, steps, _ = attached(OPTIMIZERS["sgd"], [Mechanism(look, where="update")])
    before = weights(model)
    train(model, steps, 1)
    ((params, grads),) = seen
    assert len(params) == 3
    for name, old in params.items():
        assert torch.equal(old, before[name])
        torch.testing.assert_close(old + grads[name], model.get_parameter(name).detach())


def halve(params, grads, state, /, *, key=None, by=0.5):
    return params, tree_map(lambda g: by * g, grads), state


@pytest.mark.parametrize("where", ["gradient", "update"])
def test_own_features_act_between_ours(where):
    model, steps, _ = attached(
        OPTIMIZERS["sgd"], [Mechanism(f, where=where) for f in ("fuzzy_learning_rates", halve, "volume_dependent_lr")]
    )
    other = BioConverter().expose(halve)(net())
    train(model, steps, 1)
    optimizer = OPTIMIZERS["sgd"](other.parameters())
    loss_of(other, 0).backward()
    before = weights(other)
    if where == "update":
        optimizer.step()
        for name, parameter in other.named_parameters():
            parameter.grad = parameter.detach() - before[name]
            parameter.data.copy_(before[name])
    other.fuzzy_learning_rates()
    other.halve()
    other.volume_dependent_lr()
    if where == "update":
        for parameter in other.parameters():
            parameter.data.add_(parameter.grad)
    else:
        optimizer.step()
    for name, found in weights(model).items():
        torch.testing.assert_close(found, weights(other)[name])


def test_a_field_of_the_configuration_sets_the_keyword_of_an_own_feature():
    own = Mechanism(halve, where="gradient", hyper={"by": "dampening_factor"})
    model, steps, _ = attached(lambda p: optim.SGD(p, 1.0), [own], config=BioConfig(dampening_factor=0.25))
    loss_of(model, 0).backward()
    before, grad = model[0].weight.detach().clone(), model[0].weight.grad.clone()
    steps.step()
    torch.testing.assert_close(model[0].weight.detach(), before - 0.25 * grad)


def test_periods_count_steps_from_one():
    calls = []

    def note(params, grads, state, /, *, key=None):
        calls.append(handle.steps + 1)
        return params, grads, state

    model, steps, handle = attached(OPTIMIZERS["sgd"], [Mechanism(note, every=3)], net((6, 3)))
    train(model, steps, 9)
    assert calls == [3, 6, 9]
    assert handle.steps == 9


def test_mechanisms_of_a_place_act_in_declared_order():
    def run(*names):
        model, steps, _ = attached(OPTIMIZERS["sgd"], [at_gradient(n) for n in names], bio_net(crystal_thresh=0.1))
        return everything(train(model, steps, 2))

    first, second = run("crystallize", "fuzzy_learning_rates"), run("fuzzy_learning_rates", "crystallize")
    assert any(not torch.equal(first[name], second[name]) for name in first)


@pytest.mark.sampled(5)
@pytest.mark.parametrize("most", [1, 100])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_how_many_updates_are_held_at_a_time_changes_no_bit(name, most, monkeypatch):
    names = ["fuzzy_learning_rates", "volume_dependent_lr", Mechanism("crystallize", where="update")]
    model, steps, handle = attached(OPTIMIZERS[name], [*names, "rejuvenate_weights"], bio_net())
    other, other_steps, _ = attached(OPTIMIZERS[name], [*names, "rejuvenate_weights"], bio_net())
    for bias in (model[2].bias, other[2].bias):
        bias.requires_grad_(False)
    train(other, other_steps, 3)
    monkeypatch.setattr(OPTIONS, "update_elements", most)
    train(model, steps, 3)
    same(everything(model), everything(other))
    assert handle.steps == 3
    found, expected = steps.state_dict()["state"], other_steps.state_dict()["state"]
    assert found.keys() == expected.keys()
    for parameter, state in found.items():
        same(*({key: torch.as_tensor(value) for key, value in s.items()} for s in (state, expected[parameter])))


def test_only_so_many_updates_are_held_at_a_time(monkeypatch):
    held, run = [], _update.run

    def watched(ready, finite, updates):
        held.append(sum(update.numel() for _, update in updates.values()))
        return run(ready, finite, updates)

    monkeypatch.setattr(_update, "run", watched)
    monkeypatch.setattr(OPTIONS, "update_elements", 100)
    model, steps, _ = attached(OPTIMIZERS["adam"], ["fuzzy_learning_rates"], net((6, 12, 8, 8, 3)))
    train(model, steps, 1)
    assert held == [72, 96, 64 + 24]


def test_layers_without_a_gradient_are_passed_over():
    model, steps, handle = attached(OPTIMIZERS["sgd"], ["fuzzy_learning_rates", "volume_dependent_lr", "crystallize"])
    model[0].requires_grad_(False)
    before = everything(model)
    train(model, steps, 1)
    after = everything(model)
    same({n: before[n] for n in before if n.startswith("0.")}, {n: after[n] for n in after if n.startswith("0.")})
    assert not torch.equal(before["2.weight"], after["2.weight"])
    steps.zero_grad()
    steps.step()  # As torch does: no gradient, no change.
    same(everything(model), after)
    assert handle.steps == 2


def test_embeddings_keep_their_padding_row():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(7, 4, padding_idx=0), nn.Linear(4, 2))
    converter = BioConverter(synapses="*weight")
    optimizer = optim.Adam(model.parameters(), 0.1)
    attach(optimizer, model, ["volume_dependent_lr", "fuzzy_learning_rates", "rejuvenate_weights"], converter=converter)
    before = model[0].weight.detach().clone()
    for _ in range(5):
        optimizer.zero_grad()
        model(torch.tensor([0, 1, 2, 3])).square().sum().backward()
        optimizer.step()
    assert (model[0].weight[0] == 0).all()
    assert not torch.equal(model[0].weight[1], before[1])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_types_of_weights(dtype):
    model, steps, handle = attached(
        lambda p: optim.SGD(p, 0.1), ["fuzzy_learning_rates", "rejuvenate_weights"], net().to(dtype)
    )
    before = weights(model)
    model(batch(0).to(dtype)).square().sum().backward()
    steps.step()
    assert all(value.dtype == dtype for value in weights(model).values())
    assert not torch.equal(before["0.weight"], weights(model)["0.weight"])
    assert handle.trees()[2].rate["0.weight"].dtype == dtype


def test_default_places():
    assert Mechanism("update_fuzzy_learning_rates").where == "gradient"
    assert Mechanism("fuzzy_learning_rates").where == "update"
    assert Mechanism("rejuvenate_weights").where == "after"
    assert Mechanism(halve).where == "gradient"


# Functions of the user's own: one contract for attach and sweeps.


def pull(params, grads, state, /, *, key=None):
    return {name: weight - 0.5 * grads[name] for name, weight in params.items()}, grads, state


def clip(params, grads, state, /, *, key=None, most=1e-3):
    norm = torch.stack([grad.square().sum() for grad in grads.values()]).sum().sqrt()
    factor = torch.clamp(most / norm, max=1.0)
    return params, {name: factor * grad for name, grad in grads.items()}, state


def two_layers():
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(4, 6, bias=False), nn.Tanh(), nn.Linear(6, 2, bias=False))


def one_step(lr, mechanisms):
    model = two_layers()
    optimizer = optim.SGD(model.parameters(), lr)
    if mechanisms:
        attach(optimizer, model, mechanisms, config=ONES)
    x = torch.linspace(-1, 1, 12).view(3, 4)
    model(x).square().mean().backward()
    optimizer.step()
    return {name: p.detach() for name, p in model.named_parameters()}


def one_step_of_a_sweep(lr, mechanisms):
    x = torch.linspace(-1, 1, 12).view(3, 4)
    loss = lambda output, target: output.square().mean()
    found = sweep(
        two_layers,
        loss,
        (x, x),
        steps=1,
        batch_size=3,
        lr=lr,
        seeds=1,
        mechanisms=mechanisms,
        config=ONES,
    )
    return {name: value for name, value in found.member(0).items() if name.endswith("weight")}


@pytest.mark.parametrize("run", [one_step, one_step_of_a_sweep])
def test_after_the_step_a_function_is_given_the_new_weights_and_the_gradients_of_the_step(run):
    after, plain = run(0.1, [Mechanism(pull, where="after")]), run(0.6, [])
    for name, weight in plain.items():
        torch.testing.assert_close(after[name], weight)


@pytest.mark.parametrize("where", ["gradient", "update"])
@pytest.mark.parametrize("most", [1 << 22, 5])
def test_a_function_sees_all_treated_layers_as_one_tree(where, most, monkeypatch):
    monkeypatch.setattr(OPTIONS, "update_elements", most)
    before, clipped = two_layers(), one_step(1.0, [Mechanism(clip, where=where)])
    moved = torch.stack([(clipped[name] - p.detach()).square().sum() for name, p in before.named_parameters()])
    assert moved.sum().sqrt() == pytest.approx(1e-3, rel=1e-3)  # Clipped one by one, it would be longer.


def test_after_the_step_layers_without_a_gradient_have_zeros():
    seen = {}

    def look(params, grads, state, /, *, key=None):
        seen.update(grads)
        return params, {name: grad + 1 for name, grad in grads.items()}, state

    model = nn.ModuleList([nn.Linear(3, 2), nn.Linear(3, 2)])
    optimizer = optim.SGD(model.parameters(), 0.1)
    attach(optimizer, model, [Mechanism(look, where="after")])
    model[0](torch.ones(1, 3)).sum().backward()
    optimizer.step()
    assert torch.equal(seen["0.weight"], torch.ones(2, 3))
    assert torch.equal(seen["1.weight"], torch.zeros(2, 3))
    assert torch.equal(model[0].weight.grad, torch.ones(2, 3))
    assert model[1].weight.grad is None
