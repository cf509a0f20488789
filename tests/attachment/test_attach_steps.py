"""What a step is: dummy steps, closures that optimizers evaluate themselves, failures, and interrupts at any line."""

import copy
import warnings

import pytest
import torch
from attached import EVERY_STATE, OPTIMIZERS, batch, bio_net, everything, loss_of, net, same, train, weights
from interrupts import interrupted_everywhere
from optimizers import Averaged, Deaf, Lookahead, Master, Nested, Own, Probing, ScheduleFree, Searching, Sharp
from torch import optim
from torch.distributed.checkpoint.state_dict import (
    get_model_state_dict,
    get_optimizer_state_dict,
    get_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from funcbio import BioConfig, DaleWarning, Mechanism, attach

REJUVENATE = Mechanism("rejuvenate_weights", where="update")
ALL = [
    "crystallize",
    "fuzzy_learning_rates",
    "volume_dependent_lr",
    "update_fuzzy_learning_rates",
    "rejuvenate_weights",
]


def world(make=OPTIMIZERS["sgd"], mechanisms=ALL, seed=0, **options):
    model = bio_net(seed, **EVERY_STATE)
    optimizer = make(model.parameters())
    return model, optimizer, attach(optimizer, model, mechanisms, ages=True, **options)


def snapshot(model, handle):
    return {**everything(model), **{f"age {n}": a.clone() for n, a in handle.trees()[2].age.items()}}


DUMMIES = {
    **OPTIMIZERS,
    "sgd without a state": lambda p: optim.SGD(p, 0.05),
    "sgd with decay": lambda p: optim.SGD(p, 0.05, weight_decay=0.1),
    "adam with a tensor": lambda p: optim.Adam(p, torch.tensor(0.01), foreach=False),
    "groups": lambda p: optim.SGD([{"params": [q], "lr": 0.01 * i} for i, q in enumerate(p)], lr=0.1),
}


@pytest.mark.parametrize("name", DUMMIES)
def test_steps_made_to_read_or_write_an_optimizers_state_count_for_nothing(name):
    model, optimizer, handle = world(DUMMIES[name])
    for number in range(3):
        optimizer.zero_grad()
        before, steps = snapshot(model, handle), handle.steps
        saved = get_optimizer_state_dict(model, optimizer)
        set_optimizer_state_dict(model, optimizer, optim_state_dict=saved)
        get_state_dict(model, optimizer)
        same(snapshot(model, handle), before)
        assert handle.steps == steps
        train(model, optimizer, 1, start=number)
        assert handle.steps == steps + 1


def test_a_first_step_of_a_warm_up_is_a_step():
    model, optimizer, handle = world(OPTIMIZERS["sgd"], ["crystallize", "fuzzy_learning_rates"])
    optimizer.param_groups[0]["lr"] = 0.0
    rates = handle.trees()[2].rate["0.weight"].clone()
    train(model, optimizer, 1)
    assert handle.steps == 1
    optimizer.param_groups[0]["lr"] = 0.1
    assert rates.shape == handle.trees()[2].rate["0.weight"].shape


@pytest.mark.parametrize("name", ["sgd", "adam", "sgd without a state"])
def test_loading_model_optimizer_and_handle_in_this_order_is_the_run_that_was_saved(name):
    model, optimizer, handle = world(DUMMIES[name])
    train(model, optimizer, 3)
    saved = copy.deepcopy(
        (get_model_state_dict(model), get_optimizer_state_dict(model, optimizer), handle.state_dict())
    )
    other, second, again = world(DUMMIES[name], seed=5)
    set_model_state_dict(other, saved[0])
    set_optimizer_state_dict(other, second, optim_state_dict=saved[1])
    again.load_state_dict(saved[2])
    train(model, optimizer, 3, start=3)
    train(other, second, 3, start=3)
    same(snapshot(model, handle), snapshot(other, again))


def run_with_closure(optimizer, model, number):
    def closure():
        optimizer.zero_grad()
        loss = loss_of(model, number)
        if torch.is_grad_enabled():
            loss.backward()
        return loss

    optimizer.zero_grad()
    loss_of(model, number).backward()
    return optimizer.step(closure)


SELF_EVALUATING = {
    "sharp": lambda p: Sharp(p),
    "sharp, always back": lambda p: Sharp(p, always_back=True),
    "probing": lambda p: Probing(p, 0.01),
    "searching": lambda p: Searching(p, 0.3),
}


@pytest.mark.parametrize("name", SELF_EVALUATING)
def test_optimizers_that_evaluate_their_closure_themselves_train_as_without(name):
    plain = net()
    optimizer = SELF_EVALUATING[name](plain.parameters())
    torch.manual_seed(1)
    for number in range(30):
        run_with_closure(optimizer, plain, number)
    model = bio_net(fuzzy_lr_distribution="baseline")
    attached = SELF_EVALUATING[name](model.parameters())
    handle = attach(attached, model, ["fuzzy_learning_rates"])
    torch.manual_seed(1)
    for number in range(30):
        run_with_closure(attached, model, number)
    assert handle.steps == 30
    for parameter, other in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(parameter, other, rtol=1e-3, atol=1e-4)  # Rates of 1 change nothing but rounding.


@pytest.mark.parametrize("name", SELF_EVALUATING)
def test_rates_scale_the_whole_step_of_such_an_optimizer(name):
    plain, model = net(), bio_net(fuzzy_lr_distribution="lognormal")
    optimizer, attached = (SELF_EVALUATING[name](m.parameters()) for m in (plain, model))
    handle = attach(attached, model, ["fuzzy_learning_rates"])
    before = weights(model)
    for one, owner in ((optimizer, plain), (attached, model)):
        torch.manual_seed(1)
        run_with_closure(one, owner, 0)
    for name, rate in handle.trees()[2].rate.items():
        expected = before[name] + rate * (plain.get_parameter(name) - before[name])
        torch.testing.assert_close(model.get_parameter(name), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", [*SELF_EVALUATING, "deaf"])
def test_mechanisms_on_a_gradient_that_such_an_optimizer_does_not_use_are_refused(name):
    model = bio_net()
    optimizer = Deaf(model.parameters(), 0.1) if name == "deaf" else SELF_EVALUATING[name](model.parameters())
    handle = attach(optimizer, model, ["crystallize", "fuzzy_learning_rates"])
    before = weights(model)
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"should evaluate its closure once.*crystallize.*base optimizer"):
            run_with_closure(optimizer, model, 0)
        same(weights(model), before)
    assert handle.steps == 0


def test_attaching_to_the_base_of_a_sharp_optimizer_is_right():
    model = bio_net()
    optimizer = Sharp(model.parameters())
    handle = attach(optimizer.base, model, ["crystallize", "fuzzy_learning_rates"])
    first = float(loss_of(model, 0).detach())
    for _ in range(30):
        run_with_closure(optimizer, model, 0)
    assert handle.steps == 30
    assert float(loss_of(model, 0).detach()) < 0.7 * first


def test_an_optimizer_of_ones_own_that_evaluates_first_is_treated_as_torchs():
    model, other = (bio_net(**EVERY_STATE) for _ in range(2))
    optimizer, plain = Own(model.parameters(), 1e-2), Own(other.parameters(), 1e-2)
    mechanisms = [name for name in ALL if name != "rejuvenate_weights"]
    handle, _ = attach(optimizer, model, mechanisms), attach(plain, other, mechanisms)
    for number in range(3):
        run_with_closure(optimizer, model, number)
    for number in range(3):
        other(batch(number))  # Activity is counted for both passes.
        train(other, plain, 1, start=number)
    assert handle.steps == 3
    same(weights(model), weights(other))


def test_steps_that_hooks_do_not_see_are_told():
    model = bio_net()
    optimizer = Sharp(model.parameters())
    handle = attach(optimizer, model, ["fuzzy_learning_rates"])

    def train_in_two_steps():
        for number in range(3):
            loss_of(model, number).backward()
            optimizer.first_step()
            loss_of(model, number).backward()
            optimizer.second_step()
            optimizer.zero_grad()

    with pytest.warns(UserWarning, match=r"weights that moved while no hook .* was called"):
        train_in_two_steps()
    assert handle.steps == 0


def test_weights_that_move_beside_the_steps_are_not_told():
    model, optimizer, handle = world(OPTIMIZERS["sgd"], ["fuzzy_learning_rates"])
    saved = copy.deepcopy(model.state_dict())
    for number in range(6):
        train(model, optimizer, 1, start=number)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.clamp_(-1.0, 1.0)
        loss_of(model, number).backward()
    model.load_state_dict(saved)
    for _ in range(4):
        loss_of(model, 0).backward()  # Many backward passes, and nothing moves.
    assert handle.steps == 6


KNOWN = {
    *("step", "exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer", "square_avg", "grad_avg", "acc_delta"),
    *("exp_inf", "mu_product", "sum", "prev", "step_size", "eta", "mu", "ax", "row_var", "col_var", "variance"),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_all_states_of_torchs_optimizers_are_known(name):
    model = net()
    optimizer = train(model, OPTIMIZERS[name](model.parameters()), 1) and None
    optimizer = OPTIMIZERS[name](model.parameters())
    train(model, optimizer, 1)
    for state in optimizer.state.values():
        assert state.keys() <= KNOWN


COPIES = {
    "master": (lambda p: Master(p), torch.bfloat16),
    "schedule-free": (lambda p: ScheduleFree(p), torch.float32),
    "lookahead": (lambda p: Lookahead(p), torch.float32),
    "average": (lambda p: Averaged(p), torch.float32),
}


@pytest.mark.parametrize("name", COPIES)
def test_a_state_that_is_a_copy_of_the_weights_holds_the_new_weight(name):
    make, dtype = COPIES[name]
    torch.manual_seed(0)
    model = net((32, 64, 8, 3)).to(dtype)
    optimizer = make(model.parameters())
    with pytest.warns(UserWarning, match="optimizer should be one of torch.optim, whose memory"):
        handle = attach(optimizer, model, [Mechanism("rejuvenate_weights", every=5)])
    for _number in range(5):
        optimizer.zero_grad()
        model(torch.randn(16, 32, dtype=dtype)).square().mean().backward()
        optimizer.step()
    new = handle.trees()[2].replaced["0.weight"]
    born = model[0].weight.detach()[new].float()
    assert new.any()
    seen = 0
    for one in (optimizer, *([optimizer.base] if hasattr(optimizer, "base") else [])):
        for state, value in one.state[model[0].weight].items():
            if isinstance(value, torch.Tensor) and value.shape == new.shape:
                held, seen = value[new].float(), seen + 1
                copied = state in ("master", "z", "slow", "ema")
                torch.testing.assert_close(held, born if copied else torch.zeros_like(born), rtol=1e-2, atol=1e-6)
    assert seen >= 1
    optimizer.zero_grad()
    model(torch.randn(16, 32, dtype=dtype)).square().mean().backward()
    optimizer.step()
    now = model[0].weight.detach()[new].float()
    assert now.abs().mean() > 0.7 * born.abs().mean()


DEEPER = {
    "in a dictionary": (lambda s, w: s.update(copies={"master": w}), lambda s: s["copies"]["master"]),
    "in a list": (lambda s, w: s.update(copies=[None, w]), lambda s: s["copies"][1]),
    "in a tuple": (lambda s, w: s.update(copies=(w, 3)), lambda s: s["copies"][0]),
    "flat": (lambda s, w: s.update(master=w.flatten()), lambda s: s["master"]),
}


@pytest.mark.parametrize("name", DEEPER)
@pytest.mark.filterwarnings("ignore:optimizer should be one of torch.optim, whose memory")
def test_a_copy_deeper_down_in_a_state_holds_the_new_weight_too(name):
    torch.manual_seed(0)
    model = net((32, 64, 8, 3))
    optimizer = Nested(model.parameters(), *DEEPER[name])
    handle = attach(optimizer, model, [Mechanism("rejuvenate_weights", every=5)])
    for _number in range(5):
        optimizer.zero_grad()
        model(torch.randn(16, 32)).square().mean().backward()
        optimizer.step()
    new = handle.trees()[2].replaced["0.weight"]
    born = model[0].weight.detach()[new].clone()
    assert new.any()
    optimizer.zero_grad()
    model(torch.randn(16, 32)).square().mean().backward()
    optimizer.step()
    torch.testing.assert_close(model[0].weight.detach()[new], born, rtol=0.05, atol=0.05)


def test_torchs_optimizers_are_not_warned_of():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", DaleWarning)
        world(OPTIMIZERS["adam"])


@pytest.mark.parametrize("where", ["gradient", "update", "after"])
@pytest.mark.parametrize("second", ["gradient", "update", "after"])
def test_every_replacement_of_a_step_counts(where, second):
    model = net((40, 40))
    optimizer = optim.Adam(model.parameters(), lr=1e-9)
    twice = [Mechanism("rejuvenate_weights", where=place) for place in (where, second)]
    config = BioConfig(rejuvenation_parameter_dre=4.0)
    handle = attach(optimizer, model, twice, config=config, ages=True)
    for _number in range(2):
        before = weights(model)["0.weight"]
        optimizer.zero_grad()
        model(torch.ones(1, 40)).square().sum().backward()
        optimizer.step()
        changed = (model[0].weight.detach() - before).abs() > 1e-6
    state = handle.trees()[2]
    assert changed.sum() > 100
    assert (state.age["0.weight"][changed] == 0).all()
    assert state.replaced["0.weight"][changed].all()
    late = {"gradient": False}.get(where, True) and {"gradient": False}.get(second, True)
    if late:  # Before the step, moments begin anew and take the gradient of this very step.
        assert (optimizer.state[model[0].weight]["exp_avg"][changed] == 0).all()


def test_a_large_model_with_rejuvenation_on_the_update():
    model = net((1500, 1500, 1500))
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    handle = attach(optimizer, model, ["fuzzy_learning_rates", REJUVENATE])
    groups = [list(group["params"]) for group in optimizer.param_groups]
    for _ in range(2):
        optimizer.zero_grad()
        model(torch.randn(4, 1500)).square().mean().backward()
        optimizer.step()
    assert handle.steps == 2
    assert [[id(p) for p in group["params"]] for group in optimizer.param_groups] == [list(map(id, g)) for g in groups]


def halve(params, grads, state, /, *, key=None):
    return params, {name: 0.5 * grad for name, grad in grads.items()}, state


STEPS = {
    "rates on the update": ["fuzzy_learning_rates"],
    "all places": ["crystallize", "volume_dependent_lr", "fuzzy_learning_rates", "rejuvenate_weights"],
    "rejuvenation on the update": ["fuzzy_learning_rates", REJUVENATE],
    "a function of one's own": [Mechanism(halve, where="update"), Mechanism(halve, where="gradient")],
}


def _begun(mechanisms, **options):
    model = bio_net(rejuvenation_parameter_dre=3.0)
    optimizer = OPTIMIZERS["adam"](model.parameters())
    handle = attach(optimizer, model, mechanisms, ages=True, **options)
    train(model, optimizer, 1)
    optimizer.zero_grad()
    loss_of(model, 1).backward()
    return model, optimizer, handle


@pytest.mark.parametrize("every", [61, pytest.param(5, marks=pytest.mark.slow)])
@pytest.mark.parametrize("hooks", [True, False])
@pytest.mark.parametrize("name", STEPS)
def test_a_step_interrupted_at_any_line_leaves_old_weights_or_new_ones(name, hooks, every):
    """Or those of the optimizer's own step, where nothing of ours has begun after it."""

    def make():
        model, optimizer, handle = _begun(STEPS[name], fresh_rates=True)
        if not hooks:
            state = handle.state_dict()
            handle.remove()
            handle = attach(optimizer, model, STEPS[name], ages=True, fresh_rates=True, hooks=False)
            handle.load_state_dict(state)
        return model, optimizer, handle

    def act(world):
        _, optimizer, handle = world
        if not hooks:
            handle.before_step()
        optimizer.step()
        if not hooks:
            handle.after_step()

    model, optimizer, handle = make()
    old, seen = weights(model), []
    watched = optimizer.register_step_post_hook(lambda *_: seen.append(weights(model)))
    optimizer._optimizer_step_post_hooks.move_to_end(watched.id, last=False)
    act((model, optimizer, handle))
    possible = [old, seen[0], weights(model)]

    def check(world, where):
        model, optimizer, handle = world
        for leaf, weight in weights(model).items():
            found = torch.stack([weight == values[leaf] for values in possible]).any(0)
            if "gradient" not in {mechanism.where for mechanism in handle.mechanisms} or leaf.endswith("weight"):
                assert found.all() or "crystallize" in name, (where, leaf)
        assert [len(group["params"]) for group in optimizer.param_groups] == [6]
        assert all(p.grad is not None and p.grad.shape == p.shape for p in model.parameters())
        steps = handle.steps
        assert steps in (1, 2)
        optimizer.zero_grad()
        loss_of(model, 2).backward()
        act(world)
        assert handle.steps == steps + 1

    assert interrupted_everywhere(make, act, check, every) > 5


def test_attaching_and_removing_interrupted_at_any_line_can_be_done_again():
    def make():
        model = net()
        return model, optim.SGD(model.parameters(), 0.1), []

    def act(world):
        model, optimizer, made = world
        made.append(attach(optimizer, model, ["fuzzy_learning_rates"]))
        made[0].remove()

    def check(world, where):
        model, optimizer, made = world
        for handle in made:
            handle.remove()
        assert not optimizer._optimizer_step_pre_hooks, where
        assert not optimizer._optimizer_step_post_hooks, where
        assert not [name for name, _ in model.named_modules() if "bio_mod" in name], where
        attach(optimizer, model, ["fuzzy_learning_rates"])
        train(model, optimizer, 1)

    assert interrupted_everywhere(make, act, check, every=29) > 5


def test_a_function_that_fails_takes_the_step_back():
    def broken(params, grads, state, /, *, key=None):
        raise ZeroDivisionError

    model = bio_net()
    optimizer = optim.SGD(model.parameters(), 0.1)
    handle = attach(optimizer, model, ["fuzzy_learning_rates", Mechanism(broken, where="update", every=2)])
    train(model, optimizer, 1)
    before = {name: weight for name, weight in weights(model).items() if name.endswith("weight")}
    with pytest.raises(ZeroDivisionError):
        train(model, optimizer, 1)
    same({name: weights(model)[name] for name in before}, before)
    assert handle.steps == 1
