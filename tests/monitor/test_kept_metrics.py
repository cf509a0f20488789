"""Metrics of what the state keeps for some mechanisms: golden values, pooling, vmap, and that mechanisms are seen."""

import inspect
import math

import pytest
import torch
from optree import tree_map

import funcbio
from funcbio import BioConfig, BioState, fold_in, init, key, metrics, normal

ALL = ["start", "tortoise", "utility", "mask", "bound", "singular"]
ENTRIES = [
    "start_distance",
    "tortoise_distance",
    "density",
    "clipped",
    "utility_mean",
    "utility_std",
    "spectral_norm",
]


def kept(found):
    return {name: value for name, value in found.items() if name in ENTRIES}


def test_golden_values():
    weight = {"w": torch.tensor([[3.0, 0.0], [0.0, -4.0]])}
    state = BioState(
        rate={"w": torch.ones(2, 2)},
        start={"w": torch.tensor([[3.0, 0.0], [0.0, -1.0]])},  # Distance 3, norm sqrt(10).
        tortoise={"w": torch.tensor([[0.0, 0.0], [0.0, -4.0]])},  # Distance 3, norm 4.
        utility={"w": torch.tensor([[1.0, 2.0], [3.0, 6.0]])},  # Mean 3, variance (4 + 1 + 0 + 9) / 4.
        mask={"w": torch.tensor([[True, False], [False, True]])},
        bound={"w": torch.tensor([[1.5]])},  # 3 is at twice the bound, 4 beyond.
        singular={"w": torch.tensor([[0.6], [0.8]])},
    )
    # W^T u = (1.8, -3.2); W of that is (5.4, 12.8), over the length of the first.
    expected = {
        "start_distance": 3 / math.sqrt(10),
        "tortoise_distance": 0.75,
        "density": 0.5,
        "clipped": 0.5,
        "utility_mean": 3.0,
        "utility_std": math.sqrt(3.5),
        "spectral_norm": math.hypot(5.4, 12.8) / math.hypot(1.8, 3.2),
    }
    found = metrics(weight, (), state)
    for layer in ("w", "all"):  # A model of one layer is that layer.
        assert {name: value.item() for name, value in kept(found[layer]).items()} == pytest.approx(expected, rel=1e-6)
        assert list(kept(found[layer])) == ENTRIES
    assert metrics(weight, (), state, clipped_at=2.5)["w"]["clipped"] == 0.25
    assert metrics(weight, (), state, clipped_at=torch.tensor(3.0))["w"]["clipped"] == 0.0
    assert not kept(metrics(weight, (), BioState(rate=state.rate))["w"])


def world(seed=0, dtype=torch.float32):
    shapes = {"a": (6, 9), "b": (5, 6, 3), "bias": (6,)}
    params = {name: normal(key(seed), shape, stream=name, dtype=dtype) for name, shape in shapes.items()}
    state = init(params, key=key(seed), config=BioConfig(density=0.4), keep=ALL)
    moved = {
        name: leaf + 0.1 * normal(fold_in(key(seed), name), leaf.shape, dtype=dtype) for name, leaf in params.items()
    }
    return moved, state._replace(utility=tree_map(lambda leaf: leaf.square(), moved))


def test_the_whole_model_pools_weights_and_averages_spectral_norms():
    params, state = world()
    found = metrics(params, (), state, clipped_at=0.5)
    names = ["a", "b"]
    flat = lambda tree: torch.cat([tree[name].flatten().double() for name in names])
    weight, start, utility = flat(params), flat(state.start), flat(state.utility)
    bound = torch.cat([state.bound[name].double().expand(params[name].shape).flatten() for name in names])
    expected = {
        "start_distance": (weight - start).norm() / start.norm(),
        "density": flat(state.mask).mean(),
        "clipped": (weight.abs() >= 0.5 * bound).double().mean(),
        "utility_mean": utility.mean(),
        "utility_std": utility.std(correction=0),
        "spectral_norm": torch.stack([found[name]["spectral_norm"] for name in names]).mean(),
    }
    assert {n: found["all"][n].item() for n in expected} == pytest.approx({n: v.item() for n, v in expected.items()})
    assert list(found) == [*names, "all"]


def test_vmap_over_seeds_equals_a_loop():
    worlds = [world(seed) for seed in range(3)]
    together = torch.vmap(lambda params, state: metrics(params, (), state))(
        *tree_map(lambda *leaves: torch.stack(leaves), *worlds)
    )
    for index, single in enumerate(metrics(params, (), state) for params, state in worlds):
        for layer, entries in single.items():
            assert list(together[layer]) == list(entries)
            for entry, value in entries.items():  # Products of matrices round otherwise in a batch.
                same = torch.allclose if entry == "spectral_norm" else torch.equal
                assert same(together[layer][entry][index], value), (layer, entry)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_results_are_float32_or_better(dtype):
    params, state = world(dtype=dtype)
    found, wide = (metrics(p, (), state)["all"] for p in (params, tree_map(torch.Tensor.double, params)))
    for entry, value in kept(found).items():
        assert value.dtype in (torch.float32, torch.float64)
        assert value.item() == pytest.approx(wide[entry].item(), rel=1e-4)


def test_the_spectral_norm_is_a_lower_bound_that_rises_to_the_largest_singular_value():
    params, state = world()
    largest = torch.linalg.matrix_norm(params["a"], 2).item()
    found = []
    for _ in range(100):
        found.append(metrics(params, (), state)["a"]["spectral_norm"].item())
        state = funcbio.spectral_regularization(params, params, state, strength=0.0)[2]
    assert found[0] < 0.999 * largest
    assert found[-1] == pytest.approx(largest, rel=1e-4)
    assert all(one <= other * 1.000001 for one, other in zip(found, [*found[1:], largest], strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_mechanisms_are_seen(dtype):
    params, state = world(dtype=dtype)
    clipped = funcbio.clip_weights(params, params, state, kappa=0.7)[0]
    most = (0.7 * state.bound["a"]).to(dtype)
    reached = (params["a"].abs() >= most).double().mean().item()
    assert reached > 0
    assert metrics(clipped, (), state, clipped_at=0.7)["a"]["clipped"].item() == pytest.approx(reached)
    assert metrics(clipped, (), state, clipped_at=0.71)["a"]["clipped"] == 0.0
    assert metrics(state.start, (), state)["all"]["start_distance"] == 0.0
    assert metrics(params, (), state)["b"]["density"].item() == pytest.approx(round(0.4 * 90) / 90)


def test_the_bound_is_that_of_the_default():
    default = inspect.signature(metrics).parameters["clipped_at"].default
    assert default == BioConfig().clip_weights_kappa
    with pytest.raises(ValueError, match="clipped_at should be a number"):
        metrics({"w": torch.ones(2, 2)}, (), BioState(rate=()), clipped_at="high")
