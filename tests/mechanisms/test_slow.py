"""UPGD, Hare and Tortoise, and DASH: what they remember, and what they do with it."""

import pytest
import torch
from optree import tree_map

import funcbio
from funcbio import BioState, dash, fold_in, hare_and_tortoise, init, key, normal, upgd

SIZE = 20_000


def randoms(*numbers, shape=(100, 200)):
    return [{"w": normal(fold_in(key(11), number), shape)} for number in numbers]


# UPGD


def quiet(params, update, state, **hyper):
    """A call of UPGD without noise."""
    return upgd(params, update, state, key=key(0), sigma=0.0, **hyper)


def useful():
    """A weight of high utility, some of none, and one that hurts."""
    params = {"w": torch.tensor([2.0, 0.0, 0.0, -2.0])}
    return params, {"w": torch.ones(4)}, BioState(rate=(), utility={"w": torch.zeros(4)})


def test_weights_of_use_are_protected_and_those_of_none_move_half():
    params, update, state = useful()
    moved = quiet(params, update, state)[1]["w"]
    logistic = torch.sigmoid(torch.tensor(1.0))
    torch.testing.assert_close(moved, torch.stack([1 - logistic, *torch.full((2,), 0.5), logistic]))


def test_a_model_of_no_utility_moves_half():
    _, update, state = useful()
    nothing = {"w": torch.zeros(4)}
    assert torch.equal(quiet(nothing, update, state)[1]["w"], torch.full((4,), 0.5))
    assert torch.equal(quiet(nothing, update, state, scope="local")[1]["w"], torch.full((4,), 0.5))


@pytest.mark.parametrize("top", [-1.0, -1e-30, 0.0])
def test_the_order_of_utilities_stays_where_none_is_positive(top):
    utility = {"w": torch.tensor([top, top - 1.0, top - 2.0])}
    moved = quiet({"w": torch.zeros(3)}, {"w": torch.ones(3)}, BioState(rate=(), utility=utility), beta=1.0)[1]["w"]
    assert moved.isfinite().all()
    assert moved[0] < moved[1] <= moved[2] <= 1.0


def test_the_learning_rate_and_a_correction_of_the_bias_cancel():
    params, update = randoms(1, 2)
    state = init(params, key=key(0), keep=["upgd"])
    factor = 1.0 / 1024
    slower = tree_map(lambda u: factor * u, update)
    for _ in range(3):
        whole, small = quiet(params, update, state, beta=0.9), quiet(params, slower, state, beta=0.5)
        torch.testing.assert_close(factor * whole[1]["w"], small[1]["w"])


def test_utilities_are_compared_with_the_largest_of_the_model():
    params = {"a": torch.tensor([1.0]), "b": torch.tensor([2.0])}
    update = {"a": torch.ones(1), "b": torch.ones(1)}
    state = BioState(rate=(), utility=tree_map(torch.zeros_like, params))
    moved = quiet(params, update, state)[1]
    torch.testing.assert_close(moved["a"], torch.sigmoid(torch.tensor([-0.5])))
    torch.testing.assert_close(moved["b"], torch.sigmoid(torch.tensor([-1.0])))


def test_local_utilities_do_not_depend_on_their_size():
    params, update = randoms(3, 4)
    state = init(params, key=key(0), keep=["upgd"])
    tiny = tree_map(lambda u: u * 2.0**-60, update)
    large, small = (quiet(params, one, state, scope="local")[1]["w"] for one in (update, tiny))
    torch.testing.assert_close(large, small * 2.0**60)


@pytest.mark.parametrize("protect", [True, False])
def test_the_noise_has_its_spread_where_weights_are_of_no_use(protect):
    params, update = {"w": torch.zeros(100, 200)}, {"w": torch.zeros(100, 200)}
    state = init(params, key=key(0), keep=["upgd"])
    moved = upgd(params, update, state, key=key(5), sigma=0.2, protect=protect)[1]["w"]
    tolerance = 4 / (2 * SIZE) ** 0.5  # Four standard errors of a standard deviation.
    assert moved.std().item() == pytest.approx(0.2 * 0.5, rel=tolerance)
    assert abs(moved.mean().item()) < 4 * 0.1 / SIZE**0.5


def test_without_protection_the_update_itself_passes():
    params, update, state = useful()
    assert torch.equal(quiet(params, update, state, protect=False)[1]["w"], update["w"])
    decayed = quiet(params, update, state, protect=False, decay=0.25)[1]["w"]
    torch.testing.assert_close(decayed, update["w"] - 0.25 * params["w"])


def test_upgd_with_gradient_descent_is_the_published_step():
    """By hand: w <- (1 - lr wd) w - lr g (1 - q), q from the running utility of -g w."""
    lr, beta, decay = 0.1, 0.8, 0.02
    (start,) = randoms(6, shape=(4, 5))
    weight, average = start["w"].clone(), torch.zeros(4, 5)
    params, state = start, init(start, key=key(0), keep=["upgd"])
    for step in range(5):
        (grads,) = randoms(100 + step, shape=(4, 5))
        update = tree_map(lambda g: -lr * g, grads)
        _, update, state = quiet(params, update, state, beta=beta, decay=lr * decay)
        params = tree_map(torch.add, params, update)
        average = beta * average + (1 - beta) * -grads["w"] * weight
        free = 1 - torch.sigmoid(average / average.max())
        weight = (1 - lr * decay) * weight - lr * grads["w"] * free
    torch.testing.assert_close(params["w"], weight)


# Hare and Tortoise


def test_hare_and_tortoise_is_an_average_with_resets():
    (params,) = randoms(7, shape=(3, 4))
    state, tortoise = init(params, key=key(0), keep=["hare_and_tortoise"]), params["w"].clone()
    hare, resets = params["w"].clone(), 0
    for step in range(1, 11):
        (change,) = randoms(200 + step, shape=(3, 4))
        params = tree_map(torch.add, params, change)
        params, _, state = hare_and_tortoise(params, change, state, momentum=0.9, every=4)
        hare = hare + change["w"]
        tortoise = 0.9 * tortoise + 0.1 * hare
        if step in (4, 8):
            hare, resets = tortoise.clone(), resets + 1
        torch.testing.assert_close(params["w"], hare)
        torch.testing.assert_close(state.tortoise["w"], tortoise)
    assert resets == 2
    assert state.calls["hare_and_tortoise"] == 10


def test_the_hare_leaves_the_tortoise_alone_after_a_reset():
    (params,) = randoms(8, shape=(3, 4))
    state = init(params, key=key(0), keep=["hare_and_tortoise"])
    params, _, state = hare_and_tortoise(params, params, state, every=1)
    before = state.tortoise["w"].clone()
    params["w"].add_(1.0)
    assert torch.equal(state.tortoise["w"], before)


def test_the_tortoise_of_half_precision_weights_moves():
    params = {"w": torch.ones(3, dtype=torch.bfloat16)}
    state = init(params, key=key(0), keep=["hare_and_tortoise"])
    moved = {"w": torch.full((3,), 2.0, dtype=torch.bfloat16)}
    for _ in range(5):
        moved, _, state = hare_and_tortoise(moved, moved, state, momentum=0.999, every=1000)
    torch.testing.assert_close(state.tortoise["w"], torch.full((3,), 2.0 - 0.999**5))
    assert moved["w"].dtype == torch.bfloat16


# DASH


def test_rows_that_point_where_the_gradient_leads_are_kept():
    (params,) = randoms(9, shape=(4, 50))
    grads = {"w": params["w"] * torch.tensor([[-1.0], [-3.0], [2.0], [0.0]])}
    state = init(params, key=key(0), keep=["dash"])
    factor = dash(params, grads, state, floor=0.1, every=1)[0]["w"] / params["w"]
    torch.testing.assert_close(factor, torch.tensor([1.0, 1.0, 0.1, 0.1])[:, None].expand(4, 50))


def test_shrinking_depends_on_directions_alone_however_small():
    params, grads = randoms(10, 11)
    state = init(params, key=key(0), keep=["dash"])
    tiny = tree_map(lambda g: g * 2.0**-80, grads)
    large, small = (dash(params, one, state, every=1)[0]["w"] for one in (grads, tiny))
    torch.testing.assert_close(large, small)


def test_a_random_direction_shrinks_to_the_floor():
    params, grads = randoms(12, 13)
    state = init(params, key=key(0), keep=["dash"])
    factor = dash(params, grads, state, floor=0.0, every=1)[0]["w"].norm() / params["w"].norm()
    # A cosine between random rows of 200 has a spread of 1 / sqrt 200, and half of them are cut at 0.
    assert factor.item() == pytest.approx((0.5 / 200) ** 0.5, rel=0.4)


def test_dash_acts_when_it_is_due_on_the_average_so_far():
    (params,) = randoms(14, shape=(3, 4))
    state, average = init(params, key=key(0), keep=["dash"]), torch.zeros(3, 4)
    for step in range(1, 4):
        (grads,) = randoms(300 + step, shape=(3, 4))
        before = params["w"]
        params, _, state = dash(params, grads, state, alpha=0.3, every=3)
        average = 0.7 * average - 0.3 * grads["w"]
        assert torch.equal(params["w"], before) == (step < 3)
    cosine = torch.nn.functional.cosine_similarity(average, before, dim=1)
    torch.testing.assert_close(params["w"], before * cosine.clamp(0.05, 1.0)[:, None])


# All of them

CALLS = {"upgd": upgd, "hare_and_tortoise": hare_and_tortoise, "dash": dash}
EVENTS = {"upgd": {}, "hare_and_tortoise": {"every": 1}, "dash": {"every": 1}}
every_call = pytest.mark.parametrize("name", CALLS)


@every_call
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (2, 0, 3, 3), (0,)], ids=str)
def test_weights_without_elements_pass(name, shape):
    tree = {"w": torch.ones(shape), "v": torch.ones(2, 2)}
    state = init(tree, key=key(0), keep=[name])
    params, grads, _ = CALLS[name](tree, tree, state, key=key(1), **EVENTS[name])
    assert params["w"].shape == grads["w"].shape == shape
    assert params["v"].isfinite().all()


@every_call
def test_half_precision_is_computed_in_float32(name):
    half = tree_map(torch.Tensor.half, randoms(15, shape=(6, 8))[0])
    results = []
    for tree in (half, tree_map(torch.Tensor.float, half)):
        state = init(tree, key=key(0), keep=[name])
        results.append(CALLS[name](tree, tree, state, key=key(1), **EVENTS[name]))
    found, expected = results
    for index in (0, 1):
        assert found[index]["w"].dtype == torch.float16
        assert torch.equal(found[index]["w"], expected[index]["w"].half())


@every_call
def test_biases_take_part_and_norms_only_where_asked(name):
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4))
    params = {n: p.detach().clone() for n, p in net.named_parameters()}
    field = {"upgd": "utility", "hare_and_tortoise": "tortoise", "dash": "direction"}[name]
    kept = getattr(init(params, key=key(0), keep=[name]), field)
    assert {n for n, leaf in kept.items() if leaf.ndim} == {*params} - (
        {"1.weight", "1.bias"} if name == "dash" else {*()}
    )
    config = funcbio.BioConfig(treat_norms=True)
    kept = getattr(init(params, key=key(0), keep=[name], config=config), field)
    assert all(leaf.ndim for leaf in kept.values())


@pytest.mark.parametrize(
    ("name", "hyper", "message"),
    [
        ("upgd", {"sigma": -1.0}, "sigma should be a number >= 0; found -1.0"),
        ("upgd", {"beta": 1.5}, r"beta should be a number in \[0, 1\]; found 1.5"),
        ("upgd", {"decay": -0.1}, "decay should be a number >= 0; found -0.1"),
        ("upgd", {"scope": "layer"}, "scope should be one of global, local; found 'layer'"),
        ("upgd", {"key": None}, "key should be"),
        ("hare_and_tortoise", {"momentum": 2.0}, r"momentum should be a number in \[0, 1\]; found 2.0"),
        ("hare_and_tortoise", {"every": 0}, "every should be an integer >= 1; found 0"),
        ("dash", {"alpha": -0.1}, r"alpha should be a number in \[0, 1\]; found -0.1"),
        ("dash", {"floor": 1.1}, r"floor should be a number in \[0, 1\]; found 1.1"),
        ("dash", {"every": 2.5}, "every should be an integer >= 1; found 2.5"),
    ],
)
def test_bad_options_are_refused(name, hyper, message):
    tree = {"w": torch.ones(2, 2)}
    with pytest.raises(ValueError, match=message):
        CALLS[name](tree, tree, init(tree, key=key(0), keep=[name]), **{"key": key(0), **hyper})


@pytest.mark.parametrize("name", ["hare_and_tortoise", "dash"])
def test_a_counter_that_is_not_kept_is_asked_for(name):
    tree = {"w": torch.ones(2, 2)}
    with pytest.raises(ValueError, match=rf"state.calls should hold .* under '{name}'.*keep=\['{name}'\]"):
        CALLS[name](tree, tree, init(tree, key=key(0)))
