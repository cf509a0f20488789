"""Weights that rejuvenation replaces are newborn: to the optimizer, and if asked in their rates and ages."""

import copy

import pytest
import torch
from attached import OPTIMIZERS, bio_net, everything, loss_of, net, same, train
from torch import optim

from funcbio import BioConfig, BioModule, Mechanism, attach

BORN = 4
"""The step in which weights are replaced, and how many follow."""


def pushed(model, optimizer, start, steps):
    """Steps along gradients that do not depend on the weights."""
    for number in range(start, start + steps):
        generator = torch.Generator().manual_seed(number)
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()


def replaced_once(make):
    """A model in which weights were just replaced, its optimizer, the masks, and twins that know nothing of it."""
    model = bio_net(sizes=(20, 30, 3), rejuvenation_parameter_dre=2.0)
    optimizer = make(model.parameters())
    handle = attach(optimizer, model, [Mechanism("rejuvenate_weights", every=BORN)])
    pushed(model, optimizer, 0, BORN)
    other, unaware = copy.deepcopy((model, optimizer))
    return model, optimizer, handle, other, unaware


COUNTS = ("adam", "adam fused", "adamw", "adamw foreach", "adamax", "nadam", "radam")
"""Optimizers whose step counter changes the step."""


@pytest.mark.parametrize("name", ["sgd", "sgd fused", "rmsprop", "adagrad", "rprop", "adadelta", *COUNTS])
def test_a_replaced_weight_moves_as_a_new_one_and_the_others_as_before(name):
    make = OPTIMIZERS[name]
    model, optimizer, handle, other, _ = replaced_once(make)
    masks = {n: mask.clone() for n, mask in handle.trees()[2].replaced.items()}
    assert all(0 < mask.float().mean() < 1 for mask in masks.values())
    newborn = make(other.parameters())
    if name in COUNTS:  # Step counters belong to the whole tensor, and stay.
        pushed(other, newborn, 0, 1)
        for old, new in zip(optimizer.state.values(), newborn.state.values(), strict=True):
            for key, value in new.items():
                value.copy_(old[key]) if value.ndim == 0 else value.zero_()
        other.load_state_dict(model.state_dict())
    keeper, unaware = copy.deepcopy((model, optimizer))
    pushed(model, optimizer, BORN, BORN - 1)
    pushed(other, newborn, BORN, BORN - 1)
    pushed(keeper, unaware, BORN, BORN - 1)
    for n, mask in masks.items():
        found = model.get_parameter(n)
        assert torch.equal(found[mask], other.get_parameter(n)[mask])
        assert torch.equal(found[~mask], keeper.get_parameter(n)[~mask])
        assert not torch.equal(found[~mask], other.get_parameter(n)[~mask])


def test_the_running_average_of_a_new_weight_is_the_weight():
    model, optimizer, handle, _, _ = replaced_once(lambda p: optim.ASGD(p, 1e-2, t0=0))
    for name, mask in handle.trees()[2].replaced.items():
        parameter = model.get_parameter(name)
        average = optimizer.state[parameter]["ax"]
        assert torch.equal(average[mask], parameter[mask])
        assert not torch.equal(average[~mask], parameter[~mask])


def test_memory_of_the_others_is_not_touched():
    model, optimizer, handle = attached_adam(every=3)
    pushed(model, optimizer, 0, 2)
    twin, other = copy.deepcopy((model, optimizer))
    pushed(model, optimizer, 2, 1)
    pushed(twin, other, 2, 1)
    replaced = handle.trees()[2].replaced
    for (name, parameter), unaware in zip(model.named_parameters(), twin.parameters(), strict=True):
        mask = replaced.get(name, torch.zeros_like(parameter, dtype=torch.bool))
        for key in ("exp_avg", "exp_avg_sq"):
            kept = torch.where(mask, 0.0, other.state[unaware][key])
            assert torch.equal(optimizer.state[parameter][key], kept)
        assert optimizer.state[parameter]["step"] == 3


def attached_adam(every, **options):
    model = bio_net(sizes=(20, 30, 3), rejuvenation_parameter_dre=2.0)
    optimizer = optim.Adam(model.parameters(), 1e-2)
    return model, optimizer, attach(optimizer, model, [Mechanism("rejuvenate_weights", every=every)], **options)


def test_what_a_step_counter_that_stays_means_for_adam():
    """The numbers in docs/attach.md: late in a run, a replaced weight's first steps are larger than a new one's."""
    weight = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
    optimizer = optim.Adam([weight], lr=1.0, eps=1e-12)
    weight.grad = torch.ones(2, dtype=torch.float64)
    for _ in range(20_000):
        optimizer.step()
    state = optimizer.state[weight]
    state["exp_avg"][0] = state["exp_avg_sq"][0] = 0.0
    sizes = []
    for _ in range(1000):
        before = weight.detach().clone()
        optimizer.step()
        sizes.append(before - weight.detach())
    sizes = torch.stack(sizes)
    torch.testing.assert_close(sizes[:, 1], torch.ones(1000, dtype=torch.float64), rtol=1e-3, atol=0)
    assert abs(float(sizes[0, 0]) - 3.2) < 0.05
    assert abs(float(sizes[:, 0].max()) - 6.6) < 0.05
    assert abs(float(sizes[99, 0]) - 3.2) < 0.05
    assert abs(float(sizes[999, 0]) - 1.3) < 0.05


def test_replaced_weights_get_fresh_rates_on_request_and_only_they():
    changed = {}
    for fresh in (False, True):
        model, optimizer, handle = attached_adam(every=2, fresh_rates=fresh)
        before = {n: rate.clone() for n, rate in handle.trees()[2].rate.items()}
        first = copy.deepcopy(before)
        for _ in range(2):
            pushed(model, optimizer, 0, 2)
            state = handle.trees()[2]
            for name, rate in state.rate.items():
                mask = state.replaced[name]
                assert torch.equal(rate[~mask], before[name][~mask])
                assert fresh == bool((rate[mask] != before[name][mask]).all())
            before = {n: rate.clone() for n, rate in state.rate.items()}
        changed[fresh] = before
        same(first, before) if not fresh else None
    drawn = changed[True]["0.weight"][state.replaced["0.weight"]]
    config = model[0].bio_mod.config
    assert (drawn - 1).abs().max() <= config.fuzzy_learning_rate_factor_nu
    assert drawn.std() > 0.5 * config.fuzzy_learning_rate_factor_nu / 3**0.5


def test_ages_count_steps_since_a_weight_was_replaced():
    model, optimizer, handle = attached_adam(every=3, ages=True)
    expected = {name: torch.zeros_like(w, dtype=torch.int32) for name, w in handle.trees()[0].items()}
    for number in range(7):
        pushed(model, optimizer, number, 1)
        state = handle.trees()[2]
        for name, age in expected.items():
            age += 1
            if number % 3 == 2:
                age[state.replaced[name]] = 0
        same(dict(state.age), expected)
    assert len({int(age) for age in state.age["0.weight"].unique()}) == 3


def test_without_ages_nothing_is_counted():
    _, _, handle = attached_adam(every=3)
    assert handle.trees()[2].age == ()


def test_weights_replaced_before_the_step_lose_their_moments_before_it():
    model = bio_net(sizes=(20, 30, 3), rejuvenation_parameter_dre=2.0)
    optimizer = optim.SGD(model.parameters(), 0.1, momentum=0.9)
    handle = attach(optimizer, model, [Mechanism("rejuvenate_weights", where="gradient", every=3)])
    pushed(model, optimizer, 0, 3)
    for name, mask in handle.trees()[2].replaced.items():
        parameter = model.get_parameter(name)
        assert mask.any()
        assert torch.equal(optimizer.state[parameter]["momentum_buffer"][mask], parameter.grad[mask])


def test_the_sign_of_dale_holds_through_replacement():
    config = BioConfig(apply_dales_principle=True, rejuvenation_parameter_dre=2.0)
    model = net()
    optimizer = optim.AdamW(model.parameters(), 0.1)
    attach(optimizer, model, ["rejuvenate_weights", "enforce_dales_principle"], config=config)
    train(model, optimizer, 5)
    for bio in (m for m in model.modules() if isinstance(m, BioModule) and not m.synapse.readout):
        assert (bio.sign * bio.weight >= 0).all()
    assert everything(model)
    assert loss_of(model, 0).isfinite()
