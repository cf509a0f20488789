"""Metrics: golden values, and the laws that any function of the triple keeps."""

import inspect
import math
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from conftest import run_doctest
from optree import tree_leaves, tree_map
from torch import nn
from worlds import EVERYTHING, MODELS, Classifier

import funcbio
from funcbio import BioConfig, BioConverter, BioState, init, key, metrics, trees
from funcbio.monitor import effective_rank, stable_rank

QUANTILES = (0.1, 0.5, 0.975)


class Aged(NamedTuple):
    """A state of all fields that metrics look at."""

    rate: Any
    sign: Any = ()
    activity: Any = ()
    replaced: Any = ()
    age: Any = ()


def world(name="mlp", seed=0, dtype=torch.float32):
    """Parameters, gradients, a state with something in every field, and an update."""
    torch.manual_seed(seed)
    model = MODELS[name][0]()
    params = {name: p.detach().to(dtype) for name, p in model.named_parameters()}
    first = init(params, key=key(seed), config=EVERYTHING, synapses=funcbio.synapses(model))
    third = lambda leaf: torch.arange(leaf.numel()).reshape(leaf.shape) % 3 == seed
    state = Aged(
        rate=tree_map(lambda r: torch.where(third(r), 0.4 * r, r) if r.ndim else r, first.rate),
        sign=first.sign,
        activity=tree_map(lambda c: c + torch.arange(c.numel()).reshape(c.shape), first.activity),
        replaced=tree_map(lambda r: third(r) if r.ndim else r.bool(), first.rate),
        age=tree_map(lambda r: third(r).int() * 7 + 1 if r.ndim else r.int(), first.rate),
    )
    return params, tree_map(lambda w: 2.0 * w + 0.5, params), state, tree_map(lambda w: 0.01 * w, params)


def measured(params, grads, state, update):
    return metrics(params, grads, state, update=update, quantiles=QUANTILES, ranks=True)


def test_golden_values():
    w = torch.tensor([[3.0, 0.0], [0.0, -4.0], [1.0, 1.0]])
    rate = torch.tensor([[0.2, 0.4], [0.5, 1.0], [1.5, 2.4]])
    state = Aged(
        rate={"w": rate, "b": torch.ones(())},
        sign={"w": torch.tensor([[1.0, -1.0]]), "b": torch.ones(())},
        activity={"w": torch.tensor([[0], [10], [2]]), "b": torch.zeros(())},
        replaced={"w": rate > 1.2, "b": torch.tensor(False)},
        age={"w": torch.tensor([[0, 1], [2, 3], [4, 5]], dtype=torch.int32), "b": torch.tensor(0)},
    )
    params = {"w": w, "b": torch.ones(3)}
    grads, update = tree_map(lambda p: -2.0 * p, params), tree_map(lambda p: p / 4.0, params)
    found = metrics(params, grads, state, update=update, quantiles=(0.0, 0.25, 0.5), ranks=True)
    singular = np.linalg.svd(w.numpy(), compute_uv=False)
    shares = singular / singular.sum()
    expected = {
        "rate_mean": 1.0,
        "rate_std": np.std(rate.numpy()),
        "rate_q0": 0.2,
        "rate_q25": 0.425,
        "rate_q50": 0.75,
        "crystallized": 2 / 6,  # A rate at the threshold is none.
        "replaced": 2 / 6,
        "age_mean": 2.5,
        "age_q0": 0.0,
        "age_q25": 1.25,
        "age_q50": 2.5,
        "excitatory": 3 / 4,
        "excitatory_units": 0.5,
        "sign_violations": 1 / 6,
        "dormant": 1 / 3,
        "stable_rank": 27 / singular[0] ** 2,
        "effective_rank": math.exp(-(shares * np.log(shares)).sum()),
        "weight_norm": math.sqrt(27),
        "grad_norm": 2 * math.sqrt(27),
        "update_norm": math.sqrt(27) / 4,
        "relative_update": 0.25,
    }
    for layer in ("w", "all"):  # A model of one layer is that layer.
        assert list(found[layer]) == list(expected)
        assert {name: value.item() for name, value in found[layer].items()} == pytest.approx(expected, rel=1e-6)
    assert metrics(params, grads, state, dormant_up_to=0.5)["w"]["dormant"].item() == pytest.approx(2 / 3)
    assert metrics(params, grads, state, crystallized_below=torch.tensor(0.3))["w"][
        "crystallized"
    ].item() == pytest.approx(1 / 6)


def test_the_whole_model_pools_weights_and_averages_ranks():
    params, grads, state, update = world("cnn")
    found = metrics(params, grads, state, update=update, quantiles=QUANTILES, ranks=True)
    layers = [name for name in found if name != "all"]
    rates = torch.cat([state.rate[name].flatten() for name in layers]).double().numpy()
    weights = torch.cat([params[name].flatten() for name in layers]).double().numpy()
    ages = torch.cat([state.age[name].flatten() for name in layers]).double().numpy()
    expected = {
        "rate_mean": rates.mean(),
        "rate_std": rates.std(),
        "crystallized": (rates < 0.5).mean(),
        "replaced": (ages == 8.0).mean(),
        "age_mean": ages.mean(),
        "excitatory": (weights > 0).mean(),
        "weight_norm": np.linalg.norm(weights),
        "grad_norm": np.linalg.norm(2.0 * weights + 0.5),
        "relative_update": 0.01,
        "stable_rank": np.mean([found[name]["stable_rank"].item() for name in layers]),
        "effective_rank": np.mean([found[name]["effective_rank"].item() for name in layers]),
        **{f"rate_q{100 * q:g}": np.quantile(rates, q) for q in QUANTILES},
        **{f"age_q{100 * q:g}": np.quantile(ages, q) for q in QUANTILES},
    }
    assert {name: found["all"][name].item() for name in expected} == pytest.approx(expected, rel=1e-5)


def test_the_largest_layers_need_no_more_than_a_sort():
    big = torch.arange(2**24 + 2, dtype=torch.float32).reshape(2, -1) / 2**24  # torch.quantile refuses so many.
    found = metrics({"w": big}, (), BioState(rate={"w": big}), quantiles=(0.5,))
    assert found["w"]["rate_q50"].item() == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_vmap_over_seeds_equals_a_loop(name):
    worlds = [world(name, seed) for seed in range(3)]
    together = torch.vmap(measured)(*tree_map(lambda *leaves: torch.stack(leaves), *worlds))
    for index, single in enumerate(measured(*world) for world in worlds):
        assert list(together) == list(single)
        for layer, entries in single.items():
            assert list(together[layer]) == list(entries)
            for entry, value in entries.items():
                # A batched decomposition may round otherwise.
                same = torch.allclose if entry.endswith("_rank") else torch.equal
                assert same(together[layer][entry][index], value), (layer, entry)


@pytest.mark.slow
def test_a_full_graph_gives_the_same():
    whole = world("cnn")
    eager, compiled = measured(*whole), torch.compile(measured, fullgraph=True)(*whole)
    assert list(eager) == list(compiled)
    for layer in eager:
        torch.testing.assert_close(compiled[layer], eager[layer])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_results_are_float32_or_better_and_inputs_stay(dtype):
    params, grads, state, update = world("mlp", dtype=dtype)
    state = state._replace(rate=tree_map(lambda r: r.to(dtype), state.rate))
    before = tree_map(torch.clone, (params, grads, state, update))
    found = metrics(params, grads, state, update=update, ranks=True)
    own = torch.promote_types(dtype, torch.float32)
    wide = metrics(*(tree_map(torch.Tensor.double, tree) for tree in (params, grads)), state, ranks=True)
    for layer, entries in found.items():
        for entry, value in entries.items():
            assert value.ndim == 0
            assert value.dtype == (own if entry.split("_")[0] in ("rate", "weight", "grad", "update") else value.dtype)
            assert value.dtype in (torch.float32, torch.float64)
            if entry in wide[layer]:
                assert value.item() == pytest.approx(wide[layer][entry].item(), rel=1e-5, abs=1e-6)
    assert all(map(torch.equal, tree_leaves(before), tree_leaves((params, grads, state, update))))


def test_nested_trees_go_by_dotted_names():
    params, grads, state, _ = world("mlp")
    nest = lambda tree: {"net": {name.replace(".", "_"): leaf for name, leaf in tree.items()}}
    nested = Aged(*map(nest, state))
    flat, deep = metrics(params, grads, state), metrics(nest(params), nest(grads), nested)
    assert list(deep) == ["net.0_weight", "net.2_weight", "net.4_weight", "all"]
    for layer, entries in flat.items():
        torch.testing.assert_close(deep[layer if layer == "all" else "net." + layer.replace(".", "_")], entries)


def test_what_is_absent_is_left_out():
    params, grads, state, update = world("mlp")
    bare = metrics(params, (), BioState(rate=()))
    assert list(bare) == ["0.weight", "2.weight", "4.weight", "all"]
    assert list(bare["all"]) == ["excitatory", "weight_norm"]
    full = metrics(params, grads, state, update=update)
    assert "excitatory_units" in full["2.weight"]
    assert "excitatory_units" not in full["4.weight"]  # The read-out has no signs.
    assert not [name for name in metrics(params, grads, state, quantiles=())["all"] if "_q" in name]
    assert metrics({}, {}, BioState(rate={})) == {}
    assert metrics({"b": torch.ones(3)}, (), BioState(rate=())) == {}


def test_synapses_say_how_a_weight_is_a_matrix():
    torch.manual_seed(0)
    model = nn.Sequential(nn.ConvTranspose2d(4, 3, 2), nn.Flatten(), nn.Linear(3, 2))
    params = dict(model.named_parameters())
    described = metrics(params, (), BioState(rate=()), ranks=True, synapses=funcbio.synapses(model))
    plain = metrics(params, (), BioState(rate=()), ranks=True)
    weight = params["0.weight"].detach().numpy()
    for found, matrix in ((described, weight.swapaxes(0, 1).reshape(3, -1)), (plain, weight.reshape(4, -1))):
        singular = np.linalg.svd(matrix, compute_uv=False)
        expected = (singular**2).sum() / singular[0] ** 2
        assert found["0.weight"]["stable_rank"].item() == pytest.approx(expected, rel=1e-5)
    assert not described["all"]["stable_rank"].requires_grad


@pytest.mark.parametrize("of", [stable_rank, effective_rank])
def test_ranks_have_their_limits(of):
    assert of(torch.zeros(3)).item() == 0.0
    assert of(torch.tensor([5.0, 0.0, 0.0])).item() == pytest.approx(1.0)
    assert of(torch.full((4,), 1e30)).item() == pytest.approx(4.0)
    assert run_doctest(of.__name__, of) > 0


def test_a_diverged_run_shows_nan_and_does_not_stop():
    params = {"w": torch.tensor([[1.0, math.nan], [0.0, 1.0]])}
    found = metrics(params, (), BioState(rate={"w": torch.ones(2, 2)}), ranks=True)["w"]
    assert math.isnan(found["stable_rank"])
    assert math.isnan(found["effective_rank"])
    assert math.isnan(found["weight_norm"])
    assert found["rate_mean"].item() == 1.0


def test_training_is_seen():
    """Crystallization lowers rates, rejuvenation replaces, Dale's principle holds: the numbers say so."""
    torch.manual_seed(0)
    model = BioConverter(apply_dales_principle=True, record_activity=True)(
        nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 2))
    )
    start = metrics(*trees(model))["all"]
    assert "grad_norm" not in start
    assert (start["crystallized"], start["dormant"]) == (0.0, 1.0)
    for _ in range(20):
        model(torch.randn(4, 6)).square().mean().backward()
        model.crystallize()
    replaced = model.rejuvenate_weights()
    end = metrics(*trees(model, replaced=replaced))["all"]
    assert end["crystallized"] > 0.0
    assert end["dormant"] == 0.0
    share = torch.cat([mask.flatten() for mask in replaced.values()]).double().mean().item()
    assert end["replaced"].item() == pytest.approx(share)
    assert end["sign_violations"] == 0.0
    assert end["excitatory_units"].item() == pytest.approx((model[0].bio_mod.sign > 0).double().mean().item())
    with torch.no_grad():
        model[0].weight.neg_()
    assert metrics(*trees(model))["0.weight"]["sign_violations"] == 1.0


def test_trees_are_views_in_the_shape_that_features_take():
    torch.manual_seed(0)
    model = BioConverter(record_activity=True, apply_dales_principle=True)(Classifier())
    model.features[0].weight.requires_grad_(False)
    model(torch.randn(2, 1, 4, 4)).sum().backward()
    params, grads, state = trees(model)
    assert list(params) == [name for name, _ in model.named_parameters()]
    assert params["head.weight"].data_ptr() == model.head.weight.data_ptr()
    assert torch.equal(grads["head.weight"], model.head.weight.grad)
    assert not grads["features.0.weight"].any()
    assert state.rate["features.1.weight"].ndim == 0
    _, scaled, _ = funcbio.fuzzy_learning_rates(params, grads, state)
    model.fuzzy_learning_rates()
    assert torch.equal(scaled["head.weight"], model.head.weight.grad)
    scaled = funcbio.scale_grad(params, scaled, state)[1]
    model.scale_grad()
    assert torch.equal(scaled["up.weight"], model.up.weight.grad)


def test_trees_follow_a_model_into_a_larger_one():
    inner = BioConverter()(nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2)))
    outer = nn.Sequential(nn.Flatten(), inner)
    state = trees(outer, replaced=inner.rejuvenate_weights())[2]
    assert [name for name, mask in state.replaced.items() if mask.ndim] == ["1.0.weight", "1.1.weight"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"grads": {"w": torch.ones(3)}}, "grads should hold a tensor of shape"),
        ({"update": {"w": torch.ones(())}}, "update should hold a tensor of shape"),
        ({"update": {"v": torch.ones(2, 2)}}, "update should be a tree of the structure"),
        ({"replaced": {"w": torch.ones(2, 3, dtype=torch.bool)}}, "replaced should hold a tensor of shape"),
        ({"quantiles": (0.5, 1.5)}, "quantiles should be a sequence of numbers between 0 and 1"),
        ({"quantiles": 0.5}, "quantiles should be a sequence of numbers between 0 and 1"),
        ({"crystallized_below": "low"}, "crystallized_below should be a number"),
        ({"synapses": {"v": None}}, "synapses should be a description of weights in params"),
    ],
)
def test_bad_input_is_refused(change, message):
    given = {"grads": (), "replaced": ()} | change
    state = BioState(rate={"w": torch.ones(2, 2)}, replaced=given.pop("replaced"))
    with pytest.raises(ValueError, match=message):
        metrics({"w": torch.ones(2, 2)}, given.pop("grads"), state, **given)


def test_a_layer_called_all_is_refused():
    with pytest.raises(ValueError, match="without a layer called 'all'"):
        metrics({"all": torch.ones(2, 2)}, (), BioState(rate=()))


@pytest.mark.parametrize(
    ("model", "fields", "message"),
    [
        (nn.Linear(2, 2), {}, "model should be a module that BioConverter has converted; found 'Linear'"),
        ("net", {}, "model should be a module that BioConverter has converted; found 'net'"),
        (BioConverter()(nn.Linear(2, 2)), {"replace": {}}, "perhaps replaced"),
        (
            BioConverter()(nn.Linear(2, 2)),
            {"replaced": {"bias": torch.ones(2)}},
            "given for weights that hold synapses",
        ),
        (BioConverter()(nn.Linear(2, 2)), {"replaced": None}, "a mapping from names of weights"),
    ],
)
def test_trees_refuse_what_is_not_converted(model, fields, message):
    with pytest.raises(ValueError, match=message):
        trees(model, **fields)


def test_the_threshold_is_where_no_rate_starts():
    assert inspect.signature(metrics).parameters["crystallized_below"].default == BioConfig().fuzzy_lr_min
