"""Penalties on singular values and FIRE: gradients against autograd, and where singular values go."""

import math

import pytest
import torch

import funcbio
from funcbio import BioState, init, key, normal, parseval, spectral_regularization
from funcbio.tensors._arithmetic import unit

SHAPES = {"matrix": (5, 7), "tall": (7, 3), "convolution": (4, 3, 3, 3), "one row": (1, 6)}
every_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


def weights(shape, scale=1.0, dtype=torch.float64):
    return scale * normal(key(1), shape, dtype=dtype)


def converged(weight):
    """A state whose vector is the first left singular vector."""
    left = torch.linalg.svd(weight.flatten(1))[0][:, 0]
    return BioState(rate=(), singular={"w": left.reshape(-1, *(1,) * (weight.ndim - 1))})


def by_autograd(penalty, weight):
    weight = weight.clone().requires_grad_()
    return torch.autograd.grad(penalty(weight.flatten(1)), weight)[0]


@every_shape
@pytest.mark.parametrize("power", [1, 2, 3])
def test_the_spectral_pull_is_the_gradient_of_its_penalty(shape, power):
    weight = weights(shape)
    grads = {"w": weights(shape, 0.1)}
    found = spectral_regularization({"w": weight}, grads, converged(weight), strength=0.3, power=power)[1]["w"]
    expected = by_autograd(lambda w: 0.3 * (torch.linalg.svdvals(w)[0] ** power - 1) ** 2, weight)
    torch.testing.assert_close(found, grads["w"] + expected, rtol=1e-9, atol=1e-9)


@every_shape
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_parsevals_pull_is_the_gradient_of_its_penalty(shape, scale):
    weight = weights(shape)
    zeros = {"w": torch.zeros_like(weight)}
    found = parseval({"w": weight}, zeros, BioState(rate=zeros), strength=0.3, scale=scale)[1]["w"]
    expected = by_autograd(lambda w: 0.3 * (w @ w.T - scale * torch.eye(len(w), dtype=w.dtype)).square().sum(), weight)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@every_shape
def test_the_kept_vector_finds_the_largest_singular_value(shape):
    params = {"w": weights(shape)}
    state = init(params, key=key(2), keep=["spectral_regularization"])
    zeros, tops = {"w": torch.zeros(shape, dtype=torch.float64)}, torch.linalg.svdvals(params["w"].flatten(1))
    for _ in range(500):
        state = spectral_regularization(params, zeros, state)[2]
    found = torch.linalg.vector_norm(params["w"].flatten(1).T @ state.singular["w"].flatten())
    torch.testing.assert_close(found, tops[0], rtol=1e-6, atol=0.0)


def test_the_largest_singular_value_of_every_layer_goes_to_one():
    params = {"large": weights((20, 30), 0.3), "small": weights((20, 30), 0.02)}
    state = init(params, key=key(3), keep=["spectral_regularization"])
    zeros = {name: torch.zeros_like(weight) for name, weight in params.items()}
    for _ in range(1500):
        _, pull, state = spectral_regularization(params, zeros, state, strength=5e-3)
        params = {name: weight - pull[name] for name, weight in params.items()}
    tops = torch.stack([torch.linalg.svdvals(weight)[0] for weight in params.values()])
    torch.testing.assert_close(tops, torch.ones_like(tops), rtol=0.05, atol=0.0)


def test_parseval_makes_rows_orthogonal():
    params = {"w": weights((6, 10), 0.3)}
    zeros = {"w": torch.zeros_like(params["w"])}
    for _ in range(500):
        pull = parseval(params, zeros, BioState(rate=zeros), strength=0.02, scale=2.0)[1]
        params = {"w": params["w"] - pull["w"]}
    torch.testing.assert_close(params["w"] @ params["w"].T, 2 * torch.eye(6).double(), rtol=0, atol=1e-4)


def test_a_layer_of_zeros_is_not_pulled_and_keeps_its_vector():
    params = {"w": torch.zeros(3, 4)}
    state = init(params, key=key(4), keep=["spectral_regularization"])
    _, pull, after = spectral_regularization(params, params, state)
    assert torch.equal(pull["w"], params["w"])
    assert torch.equal(after.singular["w"], state.singular["w"])
    torch.testing.assert_close(after.singular["w"].norm(), torch.tensor(1.0))


@pytest.mark.parametrize("shape", [(20, 100), (100, 20), (5, 40, 3, 3), (4, 1, 3)], ids=str)
def test_fire_makes_every_tap_an_isometry(shape):
    params = {"w": weights(shape)}
    taps = funcbio.fire(params, params, BioState(rate=params))[0]["w"].flatten(2) if len(shape) > 2 else None
    taps = funcbio.fire(params, params, BioState(rate=params))[0]["w"][..., None] if taps is None else taps
    values = torch.linalg.svdvals(taps.movedim(-1, 0))
    expected = math.sqrt(shape[0] / shape[1]) / taps.shape[-1]
    torch.testing.assert_close(values, torch.full_like(values, expected), rtol=1e-3, atol=0.0)


def test_fire_leaves_small_singular_values_of_square_matrices_behind():
    params = {"w": weights((100, 100))}
    values = [
        torch.linalg.svdvals(funcbio.fire(params, params, BioState(rate=params), iterations=count)[0]["w"])
        for count in (0, 10, 40)
    ]
    assert values[1].max() < 1.0 + 1e-9  # Ten steps: those near the top are there, the smallest are far from it.
    assert values[1].median() > 0.99
    assert values[1].min() < 0.5
    assert values[1].min() <= values[0].min() * 1.5**10
    assert values[2].min() > 0.9


def test_fire_keeps_the_singular_vectors():
    params = {"w": weights((6, 9))}
    after = funcbio.fire(params, params, BioState(rate=params))[0]["w"]
    u, _, vt = torch.linalg.svd(params["w"], full_matrices=False)
    core = u.T @ after @ vt.T
    torch.testing.assert_close(core, torch.diag(core.diagonal()), rtol=0, atol=1e-9)
    assert (core.diagonal() > 0).all()


EMPTY = [(0, 3), (3, 0), (2, 0, 3, 3)]
CALLS = {
    "spectral_regularization": spectral_regularization,
    "parseval": parseval,
    "fire": funcbio.fire,
}
every_call = pytest.mark.parametrize("name", CALLS)


@every_call
@pytest.mark.parametrize("shape", [*EMPTY, (4,)], ids=str)
def test_nothing_happens_where_there_is_no_matrix(name, shape):
    tree = {"w": torch.ones(shape)}
    state = BioState(rate=tree, singular={"w": torch.ones(shape[:1] + (1,) * (len(shape) - 1))})
    params, grads, after = CALLS[name](tree, tree, state)
    assert torch.equal(params["w"], tree["w"])
    assert torch.equal(grads["w"], tree["w"])
    assert torch.equal(after.singular["w"], state.singular["w"])


@every_call
def test_half_precision_is_computed_in_float32(name):
    half = {"w": weights((6, 8), dtype=torch.float32).half()}
    wide = {"w": half["w"].float()}
    found, expected = (
        CALLS[name](tree, tree, init(tree, key=key(5), keep=["spectral_regularization"])) for tree in (half, wide)
    )
    assert found[0]["w"].dtype == found[1]["w"].dtype == torch.float16
    assert torch.equal(found[0]["w"], expected[0]["w"].half())
    assert torch.equal(found[1]["w"], expected[1]["w"].half())


@pytest.mark.parametrize(
    ("name", "hyper", "message"),
    [
        ("spectral_regularization", {"strength": -1.0}, "strength should be a number >= 0; found -1.0"),
        ("spectral_regularization", {"power": 0}, "power should be an integer >= 1; found 0"),
        ("spectral_regularization", {"power": 1.5}, "power should be an integer >= 1; found 1.5"),
        ("parseval", {"scale": 0.0}, "scale should be a number > 0; found 0.0"),
        ("fire", {"iterations": -1}, "iterations should be an integer >= 0; found -1"),
    ],
)
def test_bad_options_are_refused(name, hyper, message):
    tree = {"w": torch.ones(2, 2)}
    with pytest.raises(ValueError, match=message):
        CALLS[name](tree, tree, BioState(rate=tree, singular={"w": torch.ones(2, 1)}), **hyper)


def test_a_vector_that_is_not_kept_is_asked_for():
    tree = {"w": torch.ones(2, 2)}
    with pytest.raises(ValueError, match=r"state.singular should be kept, by init\(..., keep=\['singular'\]\)"):
        spectral_regularization(tree, tree, BioState(rate=tree))


def test_dales_principle_holds_again_after_fire():
    net = torch.nn.Linear(9, 6)
    bio = funcbio.bind(net, funcbio.BioConfig(apply_dales_principle=True))
    params = {"weight": weights((6, 9), dtype=torch.float32), "bias": torch.zeros(6)}
    state = bio.init(params, key=key(6))
    params, sign = bio.apply_dales_principle(params, params, state)[0], state.sign["weight"]
    assert (funcbio.fire(params, params, state)[0]["weight"] * sign < 0).any()
    kept = funcbio.chain(funcbio.fire, funcbio.enforce_dales_principle)(params, params, state, key=key(7))[0]
    assert (kept["weight"] * sign >= 0).all()
    assert (kept["weight"] != 0).any()


def test_unit_vectors_of_tiny_numbers_have_length_one():
    tiny = torch.tensor([3e-30, -4e-30])
    torch.testing.assert_close(unit(tiny), torch.tensor([0.6, -0.8]))
    assert torch.equal(unit(torch.zeros(3)), torch.zeros(3))
