"""Pulls and projections: L2 Init, shrink and perturb, clipping, norms, exponentiated gradient."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import funcbio
from funcbio import BioConfig, BioState, fold_in, init, key, normal, synapses, uniform
from funcbio.engine._kernel import Draw, Kernel, apply
from funcbio.mechanisms._fresh import index_draw
from funcbio.rng import UNIFORM

HALVES = [torch.float16, torch.bfloat16]
SIGMAS = 4.5  # Chance of a wrong alarm: one in a hundred thousand for each number compared.


def moved(name, shape=(20, 30), keep=(), config=BioConfig(), dtype=torch.float32):  # noqa: B008 - it is frozen
    """Parameters that have left their start, gradients, and the state."""
    start = {"w": normal(key(1), shape).to(dtype)}
    state = init(start, key=key(0), config=config, keep=[name, *keep])
    params = {"w": start["w"] + normal(key(2), shape).to(dtype)}
    return params, {"w": normal(key(3), shape).to(dtype)}, state


def model_with_norm():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 2))
    return model, dict(model.named_parameters()), synapses(model)


PENALTIES = {
    "l2": lambda w, w0: 0.5 * (w - w0).square().sum(),
    "l1": lambda w, w0: (w - w0).abs().sum(),
    "huber": lambda w, w0: nn.functional.huber_loss(w, w0, reduction="sum", delta=0.3),
}


@pytest.mark.parametrize("penalty", PENALTIES)
def test_l2_init_adds_the_gradient_of_its_penalty(penalty):
    params, grads, state = moved("l2_init")
    weight = params["w"].clone().requires_grad_()
    (slope,) = torch.autograd.grad(0.2 * PENALTIES[penalty](weight, state.start["w"]), weight)
    options = {"strength": 0.2, "penalty": penalty, "delta": 0.3}
    after = funcbio.l2_init(params, grads, state, **options)[1]["w"]
    torch.testing.assert_close(after, grads["w"] + slope)
    decoupled = funcbio.l2_init(params, grads, state, decoupled=True, **options)[1]["w"]
    torch.testing.assert_close(decoupled, grads["w"] - slope)


@pytest.mark.parametrize("penalty", ["l2", "huber"])
def test_without_a_loss_parameters_return_to_their_start(penalty):
    params, _, state = moved("l2_init")
    none, weight, first = {"w": torch.zeros(20, 30)}, params["w"], params["w"]
    for _ in range(400):
        grad = funcbio.l2_init({"w": weight}, none, state, strength=0.1, penalty=penalty)[1]["w"]
        weight = weight - 0.5 * grad
    assert (first - state.start["w"]).abs().max() > 1.0
    torch.testing.assert_close(weight, state.start["w"], rtol=0, atol=1e-5)


def test_inside_adam_parameters_return_to_their_start_too():
    params, _, state = moved("l2_init")
    weight = nn.Parameter(params["w"])
    optimizer = torch.optim.Adam([weight], lr=0.01)
    for _ in range(1500):
        with torch.no_grad():
            none = {"w": torch.zeros_like(weight)}
            weight.grad = funcbio.l2_init({"w": weight.detach()}, none, state)[1]["w"]
        optimizer.step()
    assert (weight - state.start["w"]).abs().max() < 0.01


def test_decoupled_l2_undoes_a_share_of_the_distance():
    params, _, state = moved("l2_init")
    update = funcbio.l2_init(params, {"w": torch.zeros(20, 30)}, state, strength=0.25, decoupled=True)[1]["w"]
    before, after = params["w"] - state.start["w"], params["w"] + update - state.start["w"]
    torch.testing.assert_close(after, 0.75 * before)
    bio = funcbio.bind(params, BioConfig(l2_init_strength=0.25))
    assert torch.equal(bio.l2_init_decoupled(params, {"w": torch.zeros(20, 30)}, state)[1]["w"], update)


@pytest.mark.parametrize("feature", ["l2_init", "shrink_and_perturb", "clip_weights"])
@pytest.mark.parametrize("treat_norms", [False, True])
def test_biases_take_part_and_norms_where_asked(feature, treat_norms):
    _, params, described = model_with_norm()
    state = init(params, key=key(0), config=BioConfig(treat_norms=treat_norms), synapses=described, keep=[feature])
    params = {name: 3 * value.detach() + 5 for name, value in params.items()}
    result = getattr(funcbio, feature)(params, params, state, key=key(1))
    changed = {name for name in params if any(not torch.equal(tree[name], params[name]) for tree in result[:2])}
    unbounded = {"1.bias"} if feature == "clip_weights" else set()  # It starts at zero.
    assert changed == ({*params} - unbounded if treat_norms else {"0.weight", "0.bias", "2.weight", "2.bias"})


INITIALISERS = {
    "uniform": lambda w: nn.init.kaiming_uniform_(w, a=math.sqrt(5)),
    "normal": nn.init.xavier_normal_,
    "truncated": lambda w: nn.init.trunc_normal_(w, std=0.02),
    "orthogonal": nn.init.orthogonal_,
    "sparse": lambda w: nn.init.sparse_(w, 0.7),
    "log-normal": lambda w: w.log_normal_(-2, 1),
}


@pytest.mark.parametrize("law", INITIALISERS)
def test_fresh_weights_follow_the_initial_law_whatever_it_is(law):
    torch.manual_seed(0)
    start = INITIALISERS[law](torch.empty(200, 150))
    state = init({"w": start}, key=key(0), keep=["start"])
    params = {"w": torch.ones(200, 150)}
    fresh = funcbio.shrink_and_perturb(params, params, state, key=key(1), shrink=0.0, perturb=1.0)[0]["w"]
    values, found, count = start.flatten().sort().values, fresh.flatten().sort().values, start.numel()
    assert torch.isin(found, values).all()
    # Kolmogorov's and Smirnov's distance to the law of the start; 1.95 / sqrt(n) has a chance of one in a thousand.
    share = torch.searchsorted(found, values, right=True) - torch.searchsorted(values, values, right=True)
    assert share.abs().max() / count < 1.95 / math.sqrt(count)
    together = torch.corrcoef(torch.stack((fresh.flatten(), start.flatten())))[0, 1]
    assert abs(together) < SIGMAS / math.sqrt(count)  # The places are new.


def test_every_element_of_a_large_layer_can_be_drawn():
    seen = []
    kernel = Kernel(lambda w, unit: seen.append(unit) or w, ("weight",), ("weight",), (index_draw("x"),), by_leaf=True)
    unit = torch.tensor([0.5 + 2.0**-40], dtype=torch.float64)
    apply(kernel, {"weight": torch.ones(1)}, [unit], (), {})
    assert torch.equal(seen[0], unit)  # In float32 it would be 0.5: one in 2 ** 24 steps, of which layers have more.
    coarse = Kernel(kernel.rule, ("weight",), ("weight",), (Draw("x", UNIFORM),), by_leaf=True)
    apply(coarse, {"weight": torch.ones(1)}, [unit], (), {})
    assert seen[1].dtype == torch.float32


@pytest.mark.parametrize("noise", ["normal", "scaled"])
def test_noise_has_the_stated_spread(noise):
    params, grads, state = moved("start", (300, 400))
    after = funcbio.shrink_and_perturb(params, grads, state, key=key(1), shrink=0.5, perturb=0.2, noise=noise)[0]["w"]
    found = after - 0.5 * params["w"]
    wanted = 0.2 * (1.0 if noise == "normal" else float(params["w"].std()))
    assert abs(float(found.mean())) < SIGMAS * wanted / math.sqrt(found.numel())
    assert abs(float(found.std()) / wanted - 1) < SIGMAS * math.sqrt(0.5 / found.numel())


def test_shrinking_alone_changes_no_decision_of_a_network_without_biases():
    net = nn.Sequential(nn.Linear(5, 20, bias=False), nn.ReLU(), nn.Linear(20, 3, bias=False))
    params, inputs = {name: value.detach() for name, value in net.named_parameters()}, normal(key(4), (50, 5))
    state = init(params, key=key(0), keep=["start"])
    shrunk = funcbio.shrink_and_perturb(params, params, state, key=key(1), shrink=0.4, perturb=0.0)[0]
    torch.testing.assert_close(torch.func.functional_call(net, shrunk, inputs), 0.4**2 * net(inputs))


@pytest.mark.parametrize("noise", ["init", "start", "normal", "scaled"])
def test_no_noise_takes_norms_unless_asked(noise):
    _, params, described = model_with_norm()
    params = {name: 3 * value.detach() for name, value in params.items()}
    for treat_norms in (False, True):
        config = BioConfig(treat_norms=treat_norms, shrink_and_perturb_noise=noise)
        state = init(params, key=key(0), config=config, synapses=described, keep=["shrink_and_perturb"])
        after = funcbio.shrink_and_perturb(params, params, state, key=key(1), noise=noise)[0]
        assert (not torch.equal(after["1.weight"], params["1.weight"])) is treat_norms


def test_a_weight_that_is_not_finite_leaves_the_noise_of_others_as_it_was():
    params, grads, state = moved("start")
    call = lambda: funcbio.shrink_and_perturb(params, grads, state, key=key(1), noise="scaled")[0]["w"].flatten()[1:]
    params["w"][0, 0] = params["w"].flatten()[1:].mean()
    before, params["w"][0, 0] = call(), math.inf
    torch.testing.assert_close(call(), before, rtol=2e-3, atol=2e-3)  # One number of 600 less.


TORCH = {
    "linear": nn.Linear(300, 40),
    "conv1d": nn.Conv1d(6, 8, 5),
    "grouped": nn.Conv2d(12, 30, 3, groups=6),
    "conv3d": nn.Conv3d(3, 10, 2),
    "transposed": nn.ConvTranspose2d(30, 8, 3),
    "transposed, grouped": nn.ConvTranspose1d(12, 30, 4, groups=3),
    "attention": nn.MultiheadAttention(16, 2),
    "gru": nn.Sequential(nn.GRU(30, 5), nn.Linear(5, 2)),
    "embedding": nn.Sequential(nn.Embedding(50, 8), nn.LayerNorm(8), nn.Linear(8, 2)),
}


@pytest.mark.parametrize("choice", [None, "*weight*"])
@pytest.mark.parametrize("name", TORCH)
def test_no_weight_that_torch_has_drawn_lies_beyond_its_bound(name, choice):
    model = TORCH[name]
    if name == "embedding" and choice:
        choice = ["0.weight", "2.weight"]
    params = {one: value.detach() for one, value in model.named_parameters()}
    state = init(params, key=key(0), synapses=synapses(model, choice), keep=["clip_weights"])
    after = funcbio.clip_weights(params, params, state, kappa=1.0)[0]
    assert all(torch.equal(after[one], params[one]) for one in params)


@pytest.mark.parametrize("name", ["linear", "conv1d", "grouped", "conv3d", "transposed", "transposed, grouped"])
def test_the_bound_is_that_of_torch_s_draws(name):
    model = TORCH[name]
    params = {one: value.detach() for one, value in model.named_parameters()}
    state = init(params, key=key(0), synapses=synapses(model), keep=["clip_weights"])
    fan, _ = nn.init._calculate_fan_in_and_fan_out(params["weight"])
    assert {float(bound) for bound in state.bound.values()} == {float(torch.tensor(1 / math.sqrt(fan)))}
    # All of n uniform numbers lie within a share q of their range with a chance of q ** n.
    assert params["weight"].abs().max() * math.sqrt(fan) > 1e-5 ** (1 / params["weight"].numel())


def test_a_bias_has_the_bound_of_its_weight_by_torch_s_names():
    params = {name: value.detach() for name, value in TORCH["attention"].named_parameters()}
    state = init(params, key=key(0), synapses=synapses(TORCH["attention"]), keep=["clip_weights"])
    assert float(state.bound["in_proj_bias"]) == float(params["in_proj_weight"].abs().max())
    assert float(state.bound["out_proj.bias"]) == 0.25


def test_measured_bounds_and_biases_that_start_at_zero():
    params = {"a.weight": torch.tensor([[3.0, -1.0], [1.0, 1.0]]), "a.bias": torch.zeros(2), "b": torch.zeros(3)}
    for bound, wanted in ("maximum", 3.0), ("spread", math.sqrt(2.0)):
        config = BioConfig(clip_weights_bound=bound)
        state = init(params, key=key(0), config=config, keep=["bound"])
        assert float(state.bound["a.weight"]) == float(state.bound["a.bias"]) == pytest.approx(wanted)
        large = {name: torch.full_like(value, 100.0) for name, value in params.items()}
        after = funcbio.clip_weights(large, large, state, kappa=1.0)[0]
        assert float(after["a.bias"].max()) == pytest.approx(wanted)
        assert torch.equal(after["b"], large["b"])  # Nothing says how large it should be.


@given(values=st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=12), kappa=st.floats(0.01, 100))
def test_clipped_weights_stay_within_the_bound(values, kappa):
    state = BioState(rate=(), bound={"w": torch.tensor([[0.25]])})
    weight = torch.tensor([values])
    after = funcbio.clip_weights({"w": weight}, {"w": weight}, state, kappa=kappa)[0]["w"]
    most = torch.tensor(0.25) * torch.tensor(kappa)
    assert after.abs().max() <= most
    inside = weight.abs() <= most
    assert torch.equal(after[inside], weight[inside])
    assert torch.equal(after[~inside], most * weight[~inside].sign())


@pytest.mark.parametrize("scale", [1e-35, 1e-25, 1.0, 1e30])
def test_projection_keeps_norm_and_direction_at_any_magnitude(scale):
    params, grads, state = moved("project_norms")
    params = {"w": params["w"] * scale}
    after = funcbio.project_norms(params, grads, state)[0]["w"]
    assert float(after.norm()) == pytest.approx(float(state.norm["w"]), rel=1e-6)
    one, other = (values / values.norm() for values in (after.double(), params["w"].double()))
    torch.testing.assert_close(one, other, rtol=1e-6, atol=0)
    again = funcbio.project_norms({"w": after}, grads, state)[0]["w"]
    torch.testing.assert_close(again, after, rtol=1e-6, atol=0)


def test_projection_takes_the_norm_of_finite_weights():
    params, grads, state = moved("project_norms")
    params["w"][0, 0] = math.nan
    after = funcbio.project_norms(params, grads, state)[0]["w"].flatten()
    assert after[0].isnan()
    assert float(after[1:].norm()) == pytest.approx(float(state.norm["w"]), rel=1e-6)


def test_under_a_layer_norm_projection_changes_no_output_and_restores_the_relative_step():
    layer = nn.Sequential(nn.Linear(6, 8, bias=False), nn.LayerNorm(8, eps=0.0, elementwise_affine=False)).double()
    params = {name: value.detach() for name, value in layer.named_parameters()}
    state = init(params, key=key(0), keep=["project_norms"])
    grown, inputs = {name: 7 * value for name, value in params.items()}, normal(key(1), (5, 6), dtype=torch.float64)
    after = funcbio.project_norms(grown, grown, state)[0]
    run = lambda weights: torch.func.functional_call(layer, weights, inputs)
    torch.testing.assert_close(run(after), run(grown))
    slope = lambda weights: torch.func.grad(lambda w: run(w)[:, 0].square().sum())(weights)["0.weight"].norm()
    # A gradient falls with the norm, and counts relative to it: the effective rate falls with its square.
    assert float(slope(after) / slope(grown)) == pytest.approx(7.0)


def test_projection_leaves_biases_norms_and_zeros():
    _, params, described = model_with_norm()
    state = init(params, key=key(0), synapses=described, keep=["project_norms"])
    assert {name for name, norm in state.norm.items() if norm.ndim} == {"0.weight", "2.weight"}
    zeros = {name: torch.zeros_like(value) for name, value in params.items()}
    assert all((value == 0).all() for value in funcbio.project_norms(zeros, zeros, state)[0].values())


FLOATS = {torch.float32: 32, torch.float16: 16, torch.bfloat16: 16, torch.float64: 64}


@pytest.mark.parametrize("weights", FLOATS)
@pytest.mark.parametrize("updates", FLOATS)
@given(values=st.lists(st.tuples(st.floats(0.01, 100), st.booleans(), st.floats(-1e4, 1e4)), min_size=1, max_size=10))
def test_exponentiated_updates_keep_every_sign(weights, updates, values):
    weight = torch.tensor([[size if positive else -size for size, positive, _ in values]], dtype=weights)
    update = torch.tensor([[value for _, _, value in values]], dtype=updates)
    state = BioState(rate={"w": torch.ones(weight.shape)})
    new = funcbio.exponentiated_gradient({"w": weight}, {"w": update}, state)[1]["w"]
    assert new.dtype == updates
    assert torch.equal((weight + new).sign(), weight.sign())


def test_zeros_stay_and_weights_move_as_an_exponential():
    weight, update = normal(key(1), (30, 40), dtype=torch.float64), normal(key(2), (30, 40), dtype=torch.float64)
    weight[0] = 0.0
    state = BioState(rate={"w": torch.ones(30, 40)})
    after = weight + funcbio.exponentiated_gradient({"w": weight}, {"w": update}, state)[1]["w"]
    assert (after[0] == 0).all()
    torch.testing.assert_close(after, weight * torch.exp(weight.sign() * update))
    small = {"w": 1e-6 * update}  # To first order a step is |w| times as large.
    new = funcbio.exponentiated_gradient({"w": weight}, small, state)[1]["w"]
    torch.testing.assert_close(new, weight.abs() * small["w"], rtol=1e-5, atol=0)


def test_signs_given_by_dale_s_principle_need_no_enforcing():
    _, params, described = model_with_norm()
    config = BioConfig(apply_dales_principle=True)
    state = init(params, key=key(0), synapses=described, config=config)
    params = funcbio.apply_dales_principle(params, params, state)[0]
    for step in range(20):
        update = {n: normal(fold_in(key(1), step), w.shape, stream=n) for n, w in params.items()}
        update = funcbio.exponentiated_gradient(params, update, state)[1]
        params = {n: w + update[n] for n, w in params.items()}
    enforced = funcbio.enforce_dales_principle(params, params, state)[0]
    assert all(torch.equal(enforced[n], params[n]) for n in params)
    assert (params["0.weight"] != 0).all()


def test_exponentiated_updates_leave_those_of_biases_and_norms():
    _, params, described = model_with_norm()
    state = init(params, key=key(0), synapses=described)
    update = {name: torch.ones_like(value) for name, value in params.items()}
    after = funcbio.exponentiated_gradient(params, update, state)[1]
    assert {n for n in params if not torch.equal(after[n], update[n])} == {"0.weight", "2.weight"}


def test_many_random_updates_make_weights_log_normal():
    count, state = 20_000, BioState(rate={"w": torch.ones(1, 20_000)})
    weight, plain = torch.full((1, count), 0.1), torch.full((1, count), 0.1)
    for step in range(30):
        update = 0.4 * (uniform(fold_in(key(1), step), (1, count)) - 0.5)
        weight = weight + funcbio.exponentiated_gradient({"w": weight}, {"w": update}, state)[1]["w"]
        plain = plain + update
    skew = lambda values: float(((values - values.mean()) / values.std()).pow(3).mean())
    tolerance = SIGMAS * math.sqrt(6 / count)
    assert abs(skew(weight.log())) < tolerance
    assert skew(weight) > 10 * tolerance
    assert (plain < 0).any()  # Added instead, they change signs.


EVERY = {
    "l2_init": {},
    "shrink_and_perturb": {},
    "shrink_and_perturb scaled": {"noise": "scaled"},
    "clip_weights": {},
    "project_norms": {},
    "exponentiated_gradient": {},
}


@pytest.mark.parametrize("name", EVERY)
def test_layers_without_elements_pass(name):
    feature = name.split()[0]
    params = {"w": torch.zeros(0, 3), "v": torch.ones(2, 2)}
    state = init(params, key=key(0), keep=["start", "bound", "norm"])
    after, grads, _ = getattr(funcbio, feature)(params, params, state, key=key(1), **EVERY[name])
    assert after["w"].shape == grads["w"].shape == (0, 3)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("name", EVERY)
def test_half_precision_rounds_once(name, dtype):
    feature = name.split()[0]
    keep = ["start", "bound", "norm"]
    params, grads, state = moved("start", keep=keep, dtype=dtype)
    wide = [{"w": tree["w"].float()} for tree in (params, grads)]
    start = state._replace(start={"w": state.start["w"].float()})
    found = getattr(funcbio, feature)(params, grads, state, key=key(1), **EVERY[name])
    wanted = getattr(funcbio, feature)(*wide, start, key=key(1), **EVERY[name])
    for tree, other in zip(found[:2], wanted[:2], strict=True):
        assert tree["w"].dtype == dtype
        assert torch.equal(tree["w"], other["w"].to(dtype))


BAD = {
    "l2_init": [{"strength": -1.0}, {"penalty": "l3"}, {"delta": 0.0}],
    "shrink_and_perturb": [{"shrink": -0.1}, {"perturb": -0.1}, {"noise": "white"}],
    "clip_weights": [{"kappa": 0.0}],
}
CASES = [(name, options) for name, cases in BAD.items() for options in cases]


@pytest.mark.parametrize(("name", "options"), CASES)
def test_bad_options_get_one_message(name, options):
    params, grads, state = moved(name)
    (option,) = options
    with pytest.raises(ValueError, match=rf"{option} should be .*; found"):
        getattr(funcbio, name)(params, grads, state, key=key(1), **options)


NEEDS = {"l2_init": "start", "shrink_and_perturb": "start", "clip_weights": "bound", "project_norms": "norm"}


@pytest.mark.parametrize("name", NEEDS)
def test_a_state_that_keeps_too_little_gets_one_message(name):
    params = {"w": torch.ones(2, 2)}
    with pytest.raises(ValueError, match=rf"state.{NEEDS[name]} should be kept, by init.*; found"):
        getattr(funcbio, name)(params, params, init(params, key=key(0)), key=key(1))


def test_fresh_weights_need_a_key_and_the_start_none():
    params, grads, state = moved("start")
    funcbio.shrink_and_perturb(params, grads, state, noise="start")
    with pytest.raises(ValueError, match=r"key should be a key made by funcbio\.key"):
        funcbio.shrink_and_perturb(params, grads, state)


@pytest.mark.parametrize("name", ["shrink_and_perturb", "clip_weights", "project_norms"])
def test_connections_that_do_not_exist_stay_at_zero(name):
    params, grads, state = moved(name, keep=["mask"], config=BioConfig(density=0.5))
    mask = state.mask["w"]
    assert 0 < mask.sum() < mask.numel()
    after = getattr(funcbio, name)({"w": params["w"] * mask}, grads, state, key=key(1))[0]["w"]
    assert (after[~mask] == 0).all()
    assert (after[mask] != 0).all()


def test_fresh_values_have_the_signs_of_their_units():
    torch.manual_seed(0)
    params = {"w": torch.randn(6, 40)}
    state = init(params, key=key(0), config=BioConfig(apply_dales_principle=True), keep=["start"])
    sign = torch.where(torch.arange(40) % 3 > 0, 1.0, -1.0).expand(1, 40)
    state = state._replace(sign={"w": sign})
    params, _, state = funcbio.apply_dales_principle(params, params, state)
    moved = funcbio.shrink_and_perturb(params, params, state, key=key(1), shrink=0.0, perturb=1.0)[0]["w"]
    assert ((moved * sign) > 0).all()
