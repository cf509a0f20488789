"""What each mechanism claims to do, as a property of its results."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call
from worlds import MODELS, Classifier

import funcbio
from funcbio import BioConfig, BioConverter, BioState, key, normal, split_output, split_weights, synapses


def layer(weight, **fields):
    return {"w": weight}, {"w": torch.ones_like(weight)}, BioState(rate={"w": torch.ones_like(weight)}, **fields)


def test_volume_divides_the_learning_rate_by_ten_and_more_for_large_weights():
    scaled = funcbio.volume_dependent_lr(*layer(torch.full((50_000,), 1e-6)), key=key(0))[1]["w"]
    assert abs(float(scaled.mean()) - 0.1) < 4.5 * 0.02 / math.sqrt(50_000)
    assert abs(float(scaled.std()) - 0.02) < 4.5 * 0.02 * math.sqrt(0.5 / 50_000)
    scaled = funcbio.volume_dependent_lr(*layer(torch.tensor([0.1, 1.0, 10.0])), key=key(0), variability=1e-6)[1]["w"]
    assert list(scaled) == sorted(scaled, reverse=True)


def test_crystallization_repeated_stops_a_settled_weight_unless_there_is_a_floor():
    params, _, state = layer(torch.ones(2))
    grads = {"w": torch.tensor([0.0, 0.5])}
    floored = state
    for _ in range(50):
        state = funcbio.crystallize(params, grads, state)[2]
        floored = funcbio.crystallize(params, grads, floored, floor=0.1)[2]
    assert state.rate["w"][0] < 1e-9
    assert floored.rate["w"].tolist() == pytest.approx([0.1, 1.0])


def test_zero_weights_do_not_count_as_settled():
    params, grads = {"w": torch.tensor([0.0, 1.0])}, {"w": torch.zeros(2)}
    assert funcbio.crystallize(params, grads, layer(torch.ones(2))[2])[2].rate["w"].tolist() == pytest.approx([1, 0.6])


def test_rejuvenation_replaces_by_the_stated_probability():
    magnitude = 0.02
    weight = torch.cat((torch.full((100_000,), magnitude), normal(key(1), (300_000,)) * 0.3))
    params, _, state = funcbio.rejuvenate_weights(*layer(weight), key=key(2))
    expected = math.exp(-8 * magnitude / float(weight.std()))
    share = float(state.replaced["w"][:100_000].double().mean())
    assert abs(share - expected) < 4.5 * math.sqrt(expected * (1 - expected) / 100_000)
    kept = ~state.replaced["w"]
    assert torch.equal(params["w"][kept], weight[kept])


def test_new_weights_are_as_large_as_the_layer_and_of_either_sign():
    weight = normal(key(1), (200_000,), dtype=torch.float64) * 0.02
    params, _, state = funcbio.rejuvenate_weights(*layer(weight), key=key(2), strength=0.5)
    new = params["w"][state.replaced["w"]]
    count = len(new)
    assert abs(float((new > 0).double().mean()) - 0.5) < 4.5 * 0.5 / math.sqrt(count)
    assert new.abs().max() <= weight.abs().max()
    mean, std = weight.abs().mean(), weight.abs().std()
    # The bound cuts a little off the upper tail of the log-normal.
    assert 0.95 * mean < new.abs().mean() < mean + 4.5 * std / math.sqrt(count)


def test_the_paper_s_rule_replaces_more_at_smaller_strength_and_stays_in_range():
    weight = normal(key(1), (100_000,))
    share = []
    for strength in (4.0, 8.0, 14.0):
        params, _, state = funcbio.rejuvenate_weights(*layer(weight), key=key(2), strength=strength, variant="uniform")
        share.append(float(state.replaced["w"].double().mean()))
        assert params["w"].abs().max() <= weight.abs().max()
    assert share == sorted(share, reverse=True)


@pytest.mark.parametrize("variant", ["lognormal", "uniform"])
def test_new_weights_take_the_dale_sign(variant):
    sign = torch.tensor([[1.0, -1.0, 1.0]])
    args = layer(normal(key(1), (500, 3)).abs() * sign, sign={"w": sign})
    new = funcbio.rejuvenate_weights(*args, key=key(2), strength=0.5, variant=variant)[0]["w"]
    assert (new * sign >= 0).all()


@pytest.mark.parametrize("variant", ["lognormal", "uniform"])
@given(values=st.lists(st.floats(width=32, allow_nan=True, allow_infinity=True), min_size=1, max_size=12))
def test_whatever_the_weights_the_result_is_finite(variant, values):
    weight = torch.tensor(values)
    params, _, state = funcbio.rejuvenate_weights(*layer(weight), key=key(2), variant=variant)
    assert params["w"].isfinite().all()
    assert state.replaced["w"][~weight.isfinite()].all()


def test_dale_signs_belong_to_the_sending_unit():
    model = Classifier()
    params = dict(model.named_parameters())
    bio = funcbio.bind(model, BioConfig(apply_dales_principle=True))
    state = bio.init(params, key=key(0))
    assert {n: tuple(s.shape) for n, s in state.sign.items() if s.ndim} == {
        "features.0.weight": (1, 1, 1, 1),
        "features.3.weight": (4, 2, 1, 1),
        "up.weight": (4, 1, 1, 1),
    }
    params, _, state = bio.apply_dales_principle(params, params, state)
    for name in ("features.0.weight", "up.weight"):
        pre = bio.synapses[name].pre
        units = params[name].sign().movedim(pre, 0).flatten(1)
        assert (units == units[:, :1]).all()
    # Grouped: rows 0 and 1 hear channels 0 and 1, rows 2 and 3 hear channels 2 and 3.
    grouped = state.sign["features.3.weight"].flatten(1)
    assert torch.equal(grouped[0], grouped[1])
    assert torch.equal(grouped[2], grouped[3])
    again = bio.enforce_dales_principle(params, params, state)[0]
    assert all(torch.equal(again[n], params[n]) for n in params)


def test_the_excitatory_fraction_is_kept():
    config = BioConfig(apply_dales_principle=True, dales_excitatory_fraction=0.8)
    params = {"a": torch.ones(1, 20_000), "b": torch.ones(1, 1)}
    sign = funcbio.init(params, key=key(0), config=config).sign["a"]
    assert abs(float((sign > 0).double().mean()) - 0.8) < 4.5 * 0.4 / math.sqrt(20_000)


@pytest.mark.filterwarnings(
    "ignore:weight_splitting_Gamma=2 should find a layer:funcbio.IdleWarning"
)  # The GRU has none.
@pytest.mark.parametrize("name", MODELS)
def test_splitting_weights_equals_splitting_outputs(name):
    torch.manual_seed(0)
    make, shape = MODELS[name]
    model, x = make().eval().double(), torch.randn(shape, dtype=torch.float64)
    params = {n: p.detach().clone() for n, p in model.named_parameters()}
    by_weight = functional_call(model, split_weights(params, 2, synapses=synapses(model)), (x,))
    by_output = BioConverter(weight_splitting_Gamma=2)(model)(x)
    torch.testing.assert_close(by_weight, by_output)


def test_splitting_refuses_what_does_not_divide():
    with pytest.raises(ValueError, match=r"Gamma \(2\) must evenly divide the number of features \(5\)"):
        split_output(torch.ones(5), 2)
    model = nn.Sequential(nn.Conv2d(3, 3, 1, groups=3), nn.Conv2d(3, 3, 1))
    with pytest.raises(ValueError, match="use split_output"):
        split_weights(dict(model.named_parameters()), 3, synapses=synapses(model))


@pytest.mark.parametrize("name", MODELS)
def test_observing_a_model_counts_what_its_layers_put_out(name):
    torch.manual_seed(0)
    make, shape = MODELS[name]
    model, xs = make().eval(), torch.randn(3, *shape)
    params = {n: p.detach() for n, p in model.named_parameters()}
    call = funcbio.observe(model)
    counted, hooks = {}, []
    for module_name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            dims = [d for d in range(4) if d != 1] if module.weight.ndim == 4 else None

            def note(_, __, y, n=f"{module_name}.weight", dims=dims):
                active = y.abs() > 0.01
                counted[n] = active.sum(dims) if dims else active.flatten(0, -2).sum(0)

            hooks.append(module.register_forward_hook(note))
    expected = model(xs[0].requires_grad_())
    output, activity = call(params, xs[0])
    torch.testing.assert_close(output, expected)
    assert set(activity) == set(params)
    for n, count in counted.items():
        assert torch.equal(activity[n].flatten(), count)
    one = lambda x: call(params, x)[1]
    if name != "transformer" and name != "gru":
        together = torch.vmap(one)(xs)
        for n in params:
            assert torch.equal(together[n], torch.stack([one(x)[n] for x in xs]))
        traced = torch.compile(one, fullgraph=True, backend="aot_eager")(xs[1].detach())
        assert all(torch.equal(traced[n], one(xs[1])[n]) for n in params)
    slope = torch.func.grad(lambda p: call(p, xs[0])[0].sum())(params)
    assert all(s.isfinite().all() for s in slope.values())
    state = funcbio.init(params, key=key(0), config=BioConfig(record_activity=True), synapses=synapses(model))
    assert {n: (state.activity[n] + activity[n]).shape for n in params} == {
        n: a.shape for n, a in state.activity.items()
    }


def test_rows_of_silent_units_learn_faster_and_of_busy_ones_slower():
    args = layer(torch.ones(3, 2), activity={"w": torch.tensor([[0], [10], [50]])})
    scaled = funcbio.scale_grad(*args)[1]["w"]
    assert scaled[0].tolist() == [2.0, 2.0]
    assert scaled[2].tolist() == [0.5, 0.5]
    assert torch.equal(funcbio.scale_grad(*args, gamma=0.0)[1]["w"][1:], torch.ones(2, 2))


def test_a_layer_that_was_never_seen_active_is_left_alone():
    args = layer(torch.ones(2, 2), activity={"w": torch.zeros(2, 1, dtype=torch.int64)})
    assert torch.equal(funcbio.scale_grad(*args)[1]["w"], torch.ones(2, 2))


def test_a_tenth_of_the_rows_is_redrawn_at_later_activity_updates():
    weight = torch.ones(20_000, 2)
    args = layer(weight, activity={"w": torch.ones(20_000, 1, dtype=torch.int64)}, updates=torch.tensor(0))
    first = funcbio.update_fuzzy_learning_rates(*args, key=key(0), distribution="activity")[2]
    assert (first.rate["w"] != 1).all()
    later = funcbio.update_fuzzy_learning_rates(*args[:2], first, key=key(1), distribution="activity")[2]
    changed = later.rate["w"] != first.rate["w"]
    assert torch.equal(changed[:, 0], changed[:, 1])
    assert abs(float(changed[:, 0].double().mean()) - 0.1) < 4.5 * 0.3 / math.sqrt(20_000)


def test_bind_takes_a_bare_tree_and_init_names_what_is_missing():
    params = {"w1": torch.ones(3, 2), "b1": torch.ones(3), "w2": torch.ones(1, 3)}
    bio = funcbio.bind(params, BioConfig(apply_dales_principle=True))
    assert [(n, s.readout) for n, s in bio.synapses.items()] == [("w1", False), ("w2", True)]
    assert bio.init(params, key=key(0)).sign["w2"].ndim == 0
    with pytest.raises(ValueError, match="params should hold every weight that synapses names; found no w2"):
        bio.init({"w1": params["w1"]}, key=key(0))
