"""Newborn weights: moved as by a fresh optimizer if asked, whatever the age of the one that moves them."""

import copy
from functools import partial

import pytest
import torch
from attached import bio_net
from torch import nn, optim

from funcbio import BioState, Mechanism, attach

BORN, FOLLOWED = 300, 200
CASES = {
    "Adam": optim.Adam,
    "Adam, eps": partial(optim.Adam, eps=1e-2),
    "Adam, decay": partial(optim.Adam, weight_decay=0.1),
    "Adam, amsgrad": partial(optim.Adam, amsgrad=True),
    "Adam, maximize": partial(optim.Adam, maximize=True, weight_decay=0.1),
    "Adam, loop": partial(optim.Adam, foreach=False),
    "Adam, fused": partial(optim.Adam, fused=True),
    "Adam, lr": lambda params, lr: optim.Adam(params, lr=torch.tensor(lr)),
    "AdamW": partial(optim.AdamW, weight_decay=0.1),
    "AdamW, amsgrad": partial(optim.AdamW, weight_decay=0.1, amsgrad=True),
    "NAdam": optim.NAdam,
    "NAdam, decay": partial(optim.NAdam, weight_decay=0.1, maximize=True),
    "NAdam, decoupled": partial(optim.NAdam, weight_decay=0.1, decoupled_weight_decay=True, maximize=True),
    "RAdam": optim.RAdam,
    "RAdam, decay": partial(optim.RAdam, weight_decay=0.1, maximize=True),
    "RAdam, decoupled": partial(optim.RAdam, weight_decay=0.1, decoupled_weight_decay=True),
    "Adamax": optim.Adamax,
    "Adamax, decay": partial(optim.Adamax, weight_decay=0.1, maximize=True),
}


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)  # The product of momenta that NAdam keeps is of this type.
    yield
    torch.set_default_dtype(torch.float32)


class Reborn:
    """Replaces every third weight, once, when told to."""

    def __init__(self):
        self.now = False

    def __call__(self, params, grads, state: BioState, /, *, key=None):
        masks = {name: (torch.arange(p.numel()) % 3 == 0).view(p.shape) & self.now for name, p in params.items()}
        params = {name: torch.where(masks[name], 0.5, p) for name, p in params.items()}
        return params, grads, state._replace(replaced=masks)


def push(model, optimizer, number):
    generator = torch.Generator().manual_seed(number)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator) * 10 ** -(number % 3)
    optimizer.step()


def reborn(make, newborn, born=BORN):
    """A model whose weights were just replaced in part, its twin under a fresh optimizer, and the handle."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(7, 5), nn.Linear(5, 3))
    optimizer, feature = make(model.parameters(), lr=0.01), Reborn()
    handle = attach(optimizer, model, [Mechanism(feature, where="after")], newborn=newborn)
    for number in range(born):
        feature.now = number == born - 1
        push(model, optimizer, number)
    feature.now = False
    fresh = nn.Sequential(nn.Linear(7, 5), nn.Linear(5, 3))
    with torch.no_grad():
        for to, parameter in zip(fresh.parameters(), model.parameters(), strict=True):
            to.copy_(parameter)
    return model, optimizer, fresh, make(fresh.parameters(), lr=0.01), handle


def apart(model, fresh):
    """The largest relative distance of replaced weights."""
    pairs = [(model[i].weight.flatten()[::3], fresh[i].weight.flatten()[::3]) for i in range(2)]
    return max(((a - b).abs() / b.abs().clamp(min=0.1)).max().item() for a, b in pairs)


@pytest.mark.parametrize("make", CASES.values(), ids=CASES)
def test_a_newborn_weight_moves_as_under_a_fresh_optimizer(make, double):
    model, optimizer, fresh, fresh_optimizer, _ = reborn(make, "exact")
    for number in range(FOLLOWED):
        push(model, optimizer, 1000 + number)
        push(fresh, fresh_optimizer, 1000 + number)
        assert apart(model, fresh) < 1e-12


@pytest.mark.parametrize("make", CASES.values(), ids=CASES)
def test_in_single_precision_it_does_so_up_to_rounding(make):
    model, optimizer, fresh, fresh_optimizer, _ = reborn(make, "exact")
    for number in range(FOLLOWED):
        push(model, optimizer, 1000 + number)
        push(fresh, fresh_optimizer, 1000 + number)
    assert apart(model, fresh) < 2e-5


@pytest.mark.parametrize("newborn", ["zero", "exact"])
def test_without_it_steps_are_hot(newborn, double):
    model, optimizer, fresh, fresh_optimizer, _ = reborn(optim.Adam, newborn, 3000)
    starts = [model[0].weight.detach().clone() for _ in range(2)]
    push(model, optimizer, 5000)
    push(fresh, fresh_optimizer, 5000)
    moved = [(m[0].weight - s).flatten()[::3].abs().mean() for m, s in zip((model, fresh), starts, strict=True)]
    ratio = (moved[0] / moved[1]).item()
    assert ratio > 2 if newborn == "zero" else abs(ratio - 1) < 1e-9


def test_mean_starts_what_a_step_is_divided_by_at_the_mean_of_the_others(double):
    model, optimizer, *_ = reborn(optim.Adam, "mean", 50)
    state = optimizer.state[model[0].weight]
    new = torch.arange(35) % 3 == 0
    second = state["exp_avg_sq"].flatten()
    torch.testing.assert_close(second[new], second[~new].mean().expand(int(new.sum())))
    assert not state["exp_avg"].flatten()[new].any()


@pytest.mark.parametrize("make", [optim.Adam, optim.NAdam])
def test_weights_never_replaced_are_untouched_to_the_bit(make):
    pair = [reborn(make, newborn) for newborn in ("zero", "exact")]
    for number in range(20):
        for model, optimizer, *_ in pair:
            push(model, optimizer, 1000 + number)
    kept = torch.arange(35) % 3 != 0
    assert pair[0][0][0].weight.flatten()[kept].equal(pair[1][0][0].weight.flatten()[kept])
    assert not pair[0][0][0].weight.equal(pair[1][0][0].weight)


def test_a_run_goes_on_to_the_bit_after_a_reload():
    model, optimizer, _, _, handle = reborn(optim.Adam, "exact", 30)
    saved = copy.deepcopy((model.state_dict(), optimizer.state_dict(), handle.state_dict()))
    other, other_optimizer, _, _, other_handle = reborn(optim.Adam, "exact", 3)
    for part, state in zip((other, other_optimizer, other_handle), saved, strict=True):
        part.load_state_dict(state)
    copies = copy.deepcopy((model, optimizer, handle))
    for number in range(10):
        for pair in ((model, optimizer), (other, other_optimizer), copies[:2]):
            push(*pair, number)
    for one in (other, copies[0]):
        assert all(a.equal(b) for a, b in zip(model.parameters(), one.parameters(), strict=True))
    *_, plain = reborn(optim.Adam, "zero", 3)
    with pytest.raises(ValueError, match="newborn"):
        plain.load_state_dict(saved[2])


def test_a_layer_without_a_gradient_does_not_age():
    model, optimizer, _, _, handle = reborn(optim.Adam, "exact", 5)
    before = handle.state_dict()["layers"]["0.weight"]["newborn"].clone()
    model.zero_grad()
    optimizer.step()
    assert handle.state_dict()["layers"]["0.weight"]["newborn"].equal(before)
    push(model, optimizer, 9)
    assert handle.state_dict()["layers"]["0.weight"]["newborn"].equal(torch.where(before > 0, 2, 0).int())


def test_skipped_steps_do_not_count():
    model, optimizer, _, _, handle = reborn(partial(optim.Adam, fused=True), "exact", 5)
    before, weight = handle.state_dict()["layers"]["0.weight"]["newborn"].clone(), model[0].weight.detach().clone()
    optimizer.found_inf, optimizer.grad_scale = torch.ones(()), torch.ones(())
    push(model, optimizer, 9)
    assert handle.state_dict()["layers"]["0.weight"]["newborn"].equal(before)
    assert model[0].weight.equal(weight)


def test_closures_and_groups_with_their_own_betas(double):
    def make(params, lr):
        params = list(params)
        return optim.Adam([{"params": params[:2]}, {"params": params[2:], "betas": (0.5, 0.9)}], lr=lr)

    model, optimizer, fresh, fresh_optimizer, _ = reborn(make, "exact", 40)
    for number in range(30):
        for one, steps in ((model, optimizer), (fresh, fresh_optimizer)):
            generator = torch.Generator().manual_seed(number)
            grads = [torch.randn(p.shape, generator=generator) for p in one.parameters()]

            def closure(one=one, grads=grads):
                one.zero_grad()
                loss = sum((p * g).sum() for p, g in zip(one.parameters(), grads, strict=True))
                loss.backward()
                return loss

            steps.step(closure)
    assert apart(model, fresh) < 1e-12


def test_mechanisms_on_the_update_see_the_corrected_step(double):
    pair = []
    for factor in (False, True):
        torch.manual_seed(1)
        model, feature = bio_net(sizes=(6, 5, 3)).double(), Reborn()
        optimizer = optim.Adam(model.parameters(), lr=0.01)
        halves = [Mechanism(halved, where="update")] if factor else []
        attach(optimizer, model, [*halves, Mechanism(feature, where="after")], newborn="exact")
        for number in range(100):
            feature.now = number == 99
            push(model, optimizer, number)
        feature.now, before = False, [p.detach().clone() for p in model.parameters() if p.ndim == 2]
        push(model, optimizer, 1000)
        pair.append([p - b for p, b in zip([p for p in model.parameters() if p.ndim == 2], before, strict=True)])
    for whole, half in zip(*pair, strict=True):
        torch.testing.assert_close(whole, 2 * half, rtol=1e-9, atol=1e-12)


def halved(params, grads, state, /, *, key=None):
    return params, {name: grad / 2 for name, grad in grads.items()}, state


REFUSED = [
    ("exact", optim.SGD, "exact already"),
    ("exact", partial(optim.SGD, momentum=0.9, dampening=0.5), "dampening"),
    ("exact", optim.RMSprop, "exact already"),
    ("exact", partial(optim.Adagrad, lr_decay=0.1), "lr_decay"),
    ("exact", optim.ASGD, "use newborn='zero'"),
    ("mean", optim.SGD, "use newborn='zero'"),
    ("hot", optim.Adam, "newborn should be one of zero, mean, exact"),
    ("exact", type("Adam", (optim.Adam,), {}), "should be one of Adam"),
]


@pytest.mark.parametrize(("newborn", "make", "message"), REFUSED)
def test_what_cannot_be_exact_is_refused(newborn, make, message):
    model = nn.Linear(3, 2)
    with pytest.raises(ValueError, match=message):
        attach(make(model.parameters(), lr=0.01), model, ["rejuvenate_weights"], newborn=newborn)
    assert type(model) is nn.Linear
