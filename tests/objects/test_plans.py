"""What a call has found out about layers is used again only as long as it holds: as if looked at anew each time."""

import copy
import dataclasses
import functools
import gc
import weakref

import pytest
import torch
from torch import nn

from funcbio import (
    BioConfig,
    BioConverter,
    BioModule,
    BioState,
    Mechanism,
    attach,
    chain,
    crystallize,
    fuzzy_learning_rates,
    key,
)


class Own(torch.optim.Optimizer):
    """Evaluates its closure itself, and moves weights without a gradient too if told to."""

    def __init__(self, params, lr=0.1, drift=0.0):
        super().__init__(params, {"lr": lr, "drift": drift})

    @torch.no_grad()
    def step(self, closure=None):
        with torch.enable_grad():
            loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                p.add_(group["drift"]) if p.grad is None else p.add_(p.grad, alpha=-group["lr"])
        return loss


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
        self.both = True

    def forward(self, x):
        return self.b(self.a(x)) if self.both else self.a(x)


MECHANISMS = {
    "update": ["fuzzy_learning_rates"],
    "gradient": ["crystallize", "fuzzy_learning_rates"],
    "draws": ["volume_dependent_lr", "fuzzy_learning_rates"],
}


def run(names, both, *, forget, drift=0.0):
    """Steps in which the second layer takes part or not; ``forget``: nothing is known from earlier looks."""
    torch.manual_seed(0)
    net, x = Net(), torch.randn(3, 4)
    optimizer = Own(net.parameters(), drift=drift)
    torch.manual_seed(1)
    handle = attach(optimizer, net, names)
    overview = handle._layers.overview
    if forget:
        overview.plans.get = lambda key, mark, look: look()

    def closure():
        loss = net(x).square().sum()
        loss.backward()
        return loss

    for net.both in both:
        optimizer.zero_grad()
        optimizer.step(closure)
    return net.state_dict()


@pytest.mark.parametrize("names", MECHANISMS.values(), ids=MECHANISMS)
@pytest.mark.parametrize("both", [(True, False), (False, True), (False, False), (True, True, False, True)])
@pytest.mark.parametrize("drift", [0.0, 0.5])
def test_gradients_that_a_closure_makes_are_looked_at_in_every_step(names, both, drift):
    found, expected = (run(names, both, forget=forget, drift=drift) for forget in (False, True))
    assert all(torch.equal(value, expected[name]) for name, value in found.items())


def test_gradients_that_a_closure_shares_are_refused_in_every_step():
    net = Net()
    optimizer = Own(net.parameters())
    attach(optimizer, net, [Mechanism("fuzzy_learning_rates", where="gradient")])
    shared = torch.ones(4, 4)

    def closure(apart=True):
        net.a.weight.grad = shared
        net.b.weight.grad = shared.clone() if apart else shared
        return torch.zeros(())

    optimizer.step(closure)
    optimizer.zero_grad()
    with pytest.raises(RuntimeError, match="should have memory of its own"):
        optimizer.step(lambda: closure(apart=False))


def trained(**options):
    torch.manual_seed(0)
    net = BioConverter(**options)(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3), nn.Linear(3, 2)))
    net(torch.ones(2, 3)).square().sum().backward()
    return net


def freeze(net):
    net[0].weight.requires_grad_(False)


def new_weight(net):
    net[0].weight = nn.Parameter(torch.ones(4, 3))
    net[0].weight.grad = torch.full((4, 3), 0.1)


def new_data(net):
    net[0].weight.data = torch.ones(4, 3)


def no_gradient(net):
    net[2].weight.grad = None


def shared_gradient(net):
    net[2].weight.grad = net[0].weight.grad.view(3, 4)


def other_config(net):
    net[0].bio_mod.config = net[0].bio_mod.config.replace(crystal_thresh=10.0)


def no_sign(net):
    del net[0].bio_mod.sign


def renamed_sign(net):
    sign = net[0].bio_mod.sign
    del net[0].bio_mod.sign
    net[0].bio_mod.register_buffer("gone", sign)


def in_half(net):
    net[2].half()
    net[2].weight.grad = torch.ones(3, 4, dtype=torch.half)


ACTIONS = [freeze, new_weight, new_data, no_gradient, shared_gradient, other_config, no_sign, renamed_sign, in_half]
CALLS = {
    "crystallize": lambda net: net.crystallize(),
    "enforce_dales_principle": lambda net: net.enforce_dales_principle(),
    "bio_step": lambda net: net.bio_step("crystallize", "rejuvenate_weights", "fuzzy_learning_rates"),
}


def outcome(net, call):
    try:
        call(net)
    except (RuntimeError, AttributeError) as error:
        return f"{type(error).__name__}: {error}"
    tensors = [*net.state_dict().values(), *(p.grad for p in net.parameters() if p.grad is not None)]
    return [tensor.tolist() for tensor in tensors]


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.__name__)
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_after_a_change_a_call_is_what_it_is_on_a_model_not_looked_at_before(action, call):
    known, fresh = trained(apply_dales_principle=True), trained(apply_dales_principle=True)
    for net in (known, fresh):
        for name in CALLS:
            CALLS[name](net)
        action(net)
    fresh.crystallize.overview.survey = None
    assert outcome(known, call) == outcome(fresh, call)


def test_a_method_put_on_a_subclass_later_is_called():
    class Sub(BioModule):
        pass

    class Converter(BioConverter):
        bio_module_class = Sub

    net = Converter()(nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2)))
    net(torch.ones(1, 3)).sum().backward()
    net.crystallize()
    called = []
    Sub.crystallize = lambda self: called.append(self)
    net.crystallize()
    assert len(called) == 2


@dataclasses.dataclass(frozen=True)
class Masked(BioConfig):
    mask: torch.Tensor | None = None


def test_configurations_are_told_apart_without_comparing_their_fields():
    net = BioConverter(Masked(mask=torch.ones(3)))(nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)))
    net(torch.ones(1, 3)).sum().backward()
    net.crystallize()
    for layer in net:
        layer.bio_mod.config = layer.bio_mod.config.replace(mask=torch.zeros(3))
    net.crystallize()


def test_old_tensors_are_let_go_when_another_method_is_called():
    net = trained()
    net.crystallize()
    net.rejuvenate_weights()
    old = weakref.ref(net[0].bio_mod.fuzzy_learning_rate_parameters)
    for layer in (net[0], net[2], net[3]):
        layer.bio_mod.fuzzy_learning_rate_parameters = layer.bio_mod.fuzzy_learning_rate_parameters.clone()
    net.crystallize()
    gc.collect()
    assert old() is None


def test_copies_know_nothing_of_the_original():
    net = trained()
    net.bio_step()
    other = copy.deepcopy(net)
    other(torch.ones(2, 3)).square().sum().backward()
    before = [p.grad.clone() for p in net.parameters()]
    other.bio_step()
    assert all(torch.equal(p.grad, grad) for p, grad in zip(net.parameters(), before, strict=True))


# Chains within chains.
PARAMS = {"w": torch.ones(2)}
STATE = BioState(rate={"w": torch.full((2,), 0.5)})


def test_what_wraps_a_chain_is_called():
    inner = chain(fuzzy_learning_rates)

    @functools.wraps(inner)
    def nothing(params, grads, state, /, *, key=None):
        return inner(params, {"w": 0 * grads["w"]}, state, key=key)

    assert torch.equal(chain(nothing, crystallize)(PARAMS, PARAMS, STATE, key=key(0))[1]["w"], torch.zeros(2))


def test_a_feature_may_have_features_of_its_own():
    class Vision:
        features = 3

        def __call__(self, params, grads, state, /, *, key=None):
            return params, {"w": 2 * grads["w"]}, state

    assert torch.equal(chain(Vision(), crystallize)(PARAMS, PARAMS, STATE)[1]["w"], torch.full((2,), 2.0))


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_weight_of_few_elements_may_be_frozen_and_trained_again(size):
    model = BioConverter()(nn.Sequential(nn.Linear(size, 1), nn.Linear(1, 3)))
    weight, bio = model[0].weight, model[0].bio_mod
    for trained in (True, False, True):
        weight.requires_grad_(trained)
        before = bio.key.clone()
        model.rejuvenate_weights()
        assert bio.key.equal(before) is not trained


def test_a_gradient_may_be_a_negated_view_in_one_step_and_plain_in_the_next():
    models = [BioConverter()(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    for negated in (False, True, False):
        for p, q in zip(*[model.parameters() for model in models], strict=True):
            q.grad = torch.full_like(q, 0.5)
            p.grad = torch._neg_view(-q.grad) if negated else q.grad.clone()
        for model in models:
            model.bio_step()
        for p, q in zip(*[model.parameters() for model in models], strict=True):
            assert torch.equal(p.grad, q.grad)
