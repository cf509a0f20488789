"""Attached optimizers in the training loops people write: scaled, clipped, accumulated, scheduled, closed over."""

import copy
import warnings

import pytest
import torch
from attached import EVERY_STATE, OPTIMIZERS, batch, bio_net, everything, loss_of, net, same, train, weights
from torch import nn, optim

from funcbio import Mechanism, attach

ALL = [
    "update_fuzzy_learning_rates",
    Mechanism("crystallize", where="gradient"),
    "volume_dependent_lr",
    "fuzzy_learning_rates",
    "scale_grad",
    Mechanism("rejuvenate_weights", every=2),
    "enforce_dales_principle",
]


def world(make, mechanisms=ALL, **options):
    model = bio_net(**EVERY_STATE)
    optimizer = make(model.parameters())
    return model, optimizer, attach(optimizer, model, mechanisms, ages=True, **options)


def scaled(model, optimizer, number, scaler, *, overflow=False, unscaled=False):
    optimizer.zero_grad()
    scaler.scale(loss_of(model, number)).backward()
    if overflow:
        model[0].weight.grad[0, 0] = torch.inf
    if unscaled:
        scaler.unscale_(optimizer)
    scaler.step(optimizer)
    scaler.update()


@pytest.mark.parametrize("unscaled", [False, True])
@pytest.mark.parametrize("kind", [optim.SGD, optim.Adam, optim.AdamW, optim.Adagrad])
def test_a_scaler_changes_nothing_and_a_skipped_step_advances_nothing(kind, unscaled):
    finals = []
    for fused in (False, True):
        model, optimizer, handle = world(lambda p, fused=fused: kind(p, 0.01, fused=fused))
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8)
        for number in range(5):
            before = copy.deepcopy((everything(model), handle.state_dict(), optimizer.state_dict()["state"]))
            scaled(model, optimizer, number, scaler, overflow=number in (0, 3), unscaled=unscaled)
            if number in (0, 3):
                counted = {"activation_count", "observations"}  # The forward pass was made.
                found = {n: t for n, t in everything(model).items() if n.split(".")[-1] not in counted}
                same(found, {n: before[0][n] for n in found})
                assert handle.steps == before[1]["steps"]
                same(dict(handle.trees()[2].age), {n: d["age"] for n, d in before[1]["layers"].items()})
                for index, state in optimizer.state_dict()["state"].items():
                    for key, value in state.items():
                        old = before[2].get(index, {}).get(key)
                        assert value is old or not value.any() or torch.equal(value, old)
        assert handle.steps == 3
        finals.append((everything(model), handle.trees()[2].age))
    model, optimizer, handle = world(lambda p: kind(p, 0.01))
    for number in range(5):
        optimizer.zero_grad()
        loss_of(model, number).backward()
        if number not in (0, 3):
            optimizer.step()
    same(finals[0][0], everything(model))
    same(dict(finals[0][1]), dict(handle.trees()[2].age))
    for name, value in finals[1][0].items():  # The fused step rounds in its own way.
        torch.testing.assert_close(value, finals[0][0][name], rtol=1e-4, atol=1e-5)


def test_gradient_mechanisms_see_the_true_gradients_of_a_fused_optimizer():
    seen = []

    def look(params, grads, state, /, *, key=None):
        seen.extend(grads.values())
        return params, grads, state

    model, optimizer, _ = world(lambda p: optim.Adam(p, fused=True), [look])
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    loss_of(model, 0).backward()
    true = [model[i].weight.grad.clone() for i in (0, 2, 4)]
    scaled(model, optimizer, 0, scaler)
    assert len(seen) == 3
    for found, expected in zip(seen, true, strict=True):
        assert torch.equal(found, expected)
    assert not hasattr(optimizer, "grad_scale")


def test_a_verdict_on_another_device_holds_everything_without_being_asked(monkeypatch):
    """What a skipped step does where asking the device would make the CPU wait."""
    names = ["volume_dependent_lr", "fuzzy_learning_rates", Mechanism("crystallize", where="gradient")]
    model, optimizer, handle = world(lambda p: optim.Adam(p, 0.01, fused=True), [*names, "rejuvenate_weights"])
    monkeypatch.setattr("funcbio.attachment._handle.verdict", lambda opt: opt.found_inf.reshape(()) == 0)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8)
    other, other_optimizer, other_handle = copy.deepcopy((model, optimizer, handle))
    for number in range(4):
        scaled(model, optimizer, number, scaler, overflow=number in (0, 2))
    assert handle.steps == 2
    monkeypatch.undo()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8)
    for number in range(4):
        scaled(other, other_optimizer, number, scaler, overflow=number in (0, 2))
    same(everything(model), everything(other))
    same(dict(handle.trees()[2].age), dict(other_handle.trees()[2].age))
    assert handle.state_dict()["steps"] == 2


@pytest.mark.parametrize("name", ["sgd", "adam fused"])
@pytest.mark.parametrize("keyword", [False, True])
def test_closures_are_evaluated_once_and_their_gradients_are_treated(name, keyword):
    model, optimizer, handle = world(OPTIMIZERS[name])
    other, plain, _ = world(OPTIMIZERS[name])
    train(other, plain, 3)
    calls = []
    for number in range(3):

        def closure(number=number):
            calls.append(number)
            assert torch.is_grad_enabled()
            optimizer.zero_grad()
            loss = loss_of(model, number)
            loss.backward()
            return loss

        loss = optimizer.step(closure=closure) if keyword else optimizer.step(closure)
        assert torch.is_tensor(loss)
    assert calls == [0, 1, 2]
    assert handle.steps == 3
    same(everything(model), everything(other))


def test_accumulated_and_clipped_gradients_are_treated_once_in_the_step():
    model, optimizer, handle = world(OPTIMIZERS["adamw"], ["fuzzy_learning_rates", "volume_dependent_lr"])
    whole, plain, _ = world(OPTIMIZERS["adamw"], ["fuzzy_learning_rates", "volume_dependent_lr"])
    for number in range(3):
        optimizer.zero_grad()
        for half in (batch(number)[:8], batch(number)[8:]):
            (model(half).square().mean() / 2).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
        plain.zero_grad()
        whole(batch(number)).square().mean().backward()
        nn.utils.clip_grad_norm_(whole.parameters(), 0.1)
        plain.step()
    assert handle.steps == 3
    for name, value in weights(model).items():
        torch.testing.assert_close(value, weights(whole)[name], rtol=1e-4, atol=1e-5)


def test_schedulers_and_groups_do_what_they_do():
    """The update of each group is scaled at the learning rate of the step."""
    model, steps = bio_net(), []
    groups = [{"params": [*model[0].parameters()], "lr": 0.1}, {"params": [*model[2:].parameters()], "lr": 0.01}]
    optimizer = optim.SGD(groups)
    handle = attach(optimizer, model, ["fuzzy_learning_rates"])
    schedule = optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    rates = handle.trees()[2].rate
    for number in range(3):
        before = weights(model)
        optimizer.zero_grad()
        loss_of(model, number).backward()
        optimizer.step()
        schedule.step()  # It would warn if it had not seen the step.
        for name, parameter in model.named_parameters():
            lr = (0.1 if name.startswith("0.") else 0.01) * 0.5**number
            expected = before[name] - lr * rates.get(name, 1.0) * parameter.grad
            torch.testing.assert_close(parameter.detach(), expected, rtol=1e-5, atol=1e-7)
        steps.append(handle.steps)
    assert steps == [1, 2, 3]


def test_several_optimizers_treat_each_its_own_layers():
    def run(shared):
        model = bio_net()
        if shared:
            optimizers = [optim.Adam(model.parameters(), 1e-2)]
        else:
            optimizers = [optim.Adam(part.parameters(), 1e-2) for part in (model[:2], model[2:])]
        handles = [attach(optimizer, model, ["volume_dependent_lr", "rejuvenate_weights"]) for optimizer in optimizers]
        for number in range(3):
            model.zero_grad()
            loss_of(model, number).backward()
            for optimizer in optimizers:
                optimizer.step()
        return everything(model), handles

    one, (handle,) = run(shared=True)
    two, handles = run(shared=False)
    same(one, two)
    assert list(handle.trees()[0]) == ["0.weight", "2.weight", "4.weight"]
    assert [list(h.trees()[0]) for h in handles] == [["0.weight"], ["2.weight", "4.weight"]]


def test_a_layer_that_the_optimizer_is_given_later_is_taken_up():
    model = bio_net()
    optimizer = optim.SGD(model[4].parameters(), 0.1)
    handle = attach(optimizer, model, ["fuzzy_learning_rates"], ages=True)
    train(model, optimizer, 2)
    optimizer.add_param_group({"params": [*model[0].parameters()]})
    train(model, optimizer, 2)
    assert list(handle.trees()[0]) == ["0.weight", "4.weight"]
    assert {n: int(age.max()) for n, age in handle.trees()[2].age.items()} == {"0.weight": 2, "4.weight": 4}


def test_a_mistake_of_scheduling_is_still_told():
    _, optimizer, _ = world(OPTIMIZERS["sgd"], ["fuzzy_learning_rates"])
    schedule = optim.lr_scheduler.StepLR(optimizer, 1)
    with pytest.warns(UserWarning, match="before `optimizer.step"):
        schedule.step()


def test_steps_by_hand_are_steps_by_hooks():
    by_hooks, optimizer, _ = world(OPTIMIZERS["adam"])
    train(by_hooks, optimizer, 4)
    model = bio_net(**EVERY_STATE)
    plain = OPTIMIZERS["adam"](model.parameters())
    handle = attach(plain, model, ALL, hooks=False)
    for number in range(4):
        plain.zero_grad()
        loss_of(model, number).backward()
        handle.before_step()
        plain.step()
        plain.zero_grad()
        handle.after_step()
    same(everything(model), everything(by_hooks))
    assert handle.steps == 4


def test_steps_by_hand_without_an_optimizer():
    model = net()
    handle = attach(None, model, ["fuzzy_learning_rates", "rejuvenate_weights"], hooks=False)
    before = weights(model)
    loss_of(model, 0).backward()
    handle.before_step()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= 0.1 * parameter.grad
    handle.after_step()
    state = handle.trees()[2]
    kept, rate = ~state.replaced["0.weight"], state.rate["0.weight"]
    expected = before["0.weight"] - 0.1 * rate * model[0].weight.grad
    torch.testing.assert_close(model[0].weight.detach()[kept], expected[kept])


def test_steps_by_hand_stand_still_while_a_gradient_has_overflowed():
    model = bio_net(**EVERY_STATE)
    optimizer = optim.SGD(model.parameters(), 0.1)
    handle = attach(optimizer, model, ALL, hooks=False)
    loss_of(model, 0).backward()
    model[0].weight.grad[0, 0] = torch.nan
    before = everything(model)
    handle.before_step()
    handle.after_step()
    same(everything(model), before)
    assert handle.steps == 0


@pytest.mark.parametrize("hooks", [True, False])
def test_compiled_steps(hooks):
    model, other = bio_net(), bio_net()
    optimizer, plain = (optim.SGD(m.parameters(), 0.1) for m in (model, other))
    handle = attach(optimizer, model, ["volume_dependent_lr", "rejuvenate_weights"], hooks=hooks)
    attach(plain, other, ["volume_dependent_lr", "rejuvenate_weights"])
    compiled = torch.compile(optimizer.step, backend="eager")
    for number in range(2):
        model.zero_grad()
        loss_of(model, number).backward()
        if not hooks:
            handle.before_step()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # The compiler's own.
            compiled()
        if not hooks:
            handle.after_step()
    train(other, plain, 2)
    assert handle.steps == 2
    for name, value in weights(model).items():
        torch.testing.assert_close(value, weights(other)[name])
