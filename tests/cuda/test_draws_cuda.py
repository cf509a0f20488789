"""Draws on another device are those of the CPU: keys and uniforms to the bit, all else to rounding."""

import pytest
import torch
from devices import DEVICE, require_device
from optree import tree_leaves, tree_map
from worlds import FEATURES, model_world

import funcbio
from funcbio import (
    Distribution,
    bernoulli,
    beta,
    fold_in,
    gamma,
    key,
    normal,
    permutation,
    randint,
    sample_rates,
    split,
    uniform,
)
from funcbio.rng import threefry2x32

require_device()
FAR = 0.001
"""Share of numbers that may differ: those of decisions on numbers that differ by rounding."""
SHAPES = [(), (5,), (130, 700), (3, 0, 2)]
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)
every_type = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def both(draw):
    """What a function of a key returns on the CPU, and on the device."""
    here, there = draw(key(3)), draw(key(3, device=DEVICE))
    assert there.device.type == DEVICE.type
    return here, there.cpu()


def close(here, there, **limits):
    """Asserts that two tensors are the same to rounding, but for a few that hang on a decision."""
    far = ~torch.isclose(here.double(), there.double(), **limits)
    assert here.dtype == there.dtype
    assert far.sum() <= FAR * here.numel()


@pytest.mark.parametrize("seed", [0, 7, -1, 2**62 + 3])
def test_keys_are_the_same_integers(seed):
    here, there = key(seed), key(seed, device=DEVICE)
    for derive in (lambda k: k, lambda k: fold_in(k, 5), lambda k: fold_in(k, "name"), lambda k: split(k, 100)):
        assert torch.equal(derive(here), derive(there).cpu())
    for number in (0, 1, 2**40, -3):
        assert torch.equal(fold_in(here, number), fold_in(there, torch.tensor(number, device=DEVICE)).cpu())


@pytest.mark.parametrize("rounds", [13, 20])
def test_words_are_the_same_integers(rounds):
    low, high = torch.arange(1000, dtype=torch.int32), torch.full((1000,), -7, dtype=torch.int32)
    here = threefry2x32(key(1), low, high, rounds=rounds)
    there = threefry2x32(key(1, device=DEVICE), low.to(DEVICE), high.to(DEVICE), rounds=rounds)
    assert all(torch.equal(a, b.cpu()) for a, b in zip(here, there, strict=True))


@every_shape
@every_type
def test_uniforms_are_the_same_to_the_bit(shape, dtype):
    for offset in (0, 1, 777):
        here, there = both(lambda k, offset=offset: uniform(k, shape, dtype=dtype, stream="s", offset=offset))
        assert torch.equal(here, there)
    assert torch.equal(*both(lambda k: uniform(k, shape, low=-2.0, high=3.0, dtype=dtype)))
    assert torch.equal(*both(lambda k: bernoulli(k, 0.3, shape)))


@every_shape
@pytest.mark.parametrize("width", [1, 1797, 1 << 31])
def test_whole_numbers_are_the_same(shape, width):
    for offset in (0, 1, 777):
        here, there = both(lambda k, offset=offset: randint(k, -5, width - 5, shape, stream="s", offset=offset))
        assert torch.equal(here, there)
    assert torch.equal(*both(lambda k: randint(k, torch.tensor(-5), torch.tensor(width - 5), shape)))


@pytest.mark.parametrize("count", [0, 1, 1797, 60_000])
def test_orders_are_the_same(count):
    assert torch.equal(*both(lambda k: permutation(k, count)))


@every_shape
@every_type
def test_normals_are_the_same_to_rounding(shape, dtype):
    here, there = both(lambda k: normal(k, shape, dtype=dtype, stream="s", offset=3))
    step = torch.finfo(dtype).eps
    times = 2 if dtype.itemsize == 2 else 16  # Computed in single precision, and rounded.
    torch.testing.assert_close(here, there, rtol=times * step, atol=4 * step)


@pytest.mark.parametrize("draw", [lambda k: gamma(k, 2.5, (9999,)), lambda k: beta(k, 0.7, 2.0, (9999,))])
def test_gammas_are_the_same_to_rounding(draw):
    close(*both(draw), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("distribution", list(Distribution), ids=str)
def test_rates_are_the_same_to_rounding(distribution):
    weight = torch.randn(40, 30)
    draw = lambda k: sample_rates(k, weight.to(k.device), distribution=distribution.value)
    close(*both(draw), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", FEATURES)
def test_features_are_the_same_to_rounding(name):
    args = model_world("cnn")
    here = FEATURES[name][0](*args, key=key(3))
    there = FEATURES[name][0](*tree_map(lambda leaf: leaf.to(DEVICE), args), key=key(3, device=DEVICE))
    numbers = [torch.cat([leaf.cpu().double().flatten() for leaf in tree_leaves(tree)]) for tree in (here, there)]
    close(*numbers, rtol=1e-4, atol=1e-6)


def test_a_converted_model_moves_with_its_draws():
    torch.manual_seed(0)
    here = funcbio.BioConverter()(torch.nn.Linear(30, 40))
    there = funcbio.BioConverter()(torch.nn.Linear(30, 40))
    there.load_state_dict(here.state_dict())
    there.to(DEVICE)
    for model in (here, there):
        model.weight.grad = torch.ones_like(model.weight)
        for _ in range(3):
            model.volume_dependent_lr()
    assert torch.equal(here.bio_mod.key, there.bio_mod.key.cpu())
    torch.testing.assert_close(here.weight.grad, there.weight.grad.cpu(), rtol=1e-4, atol=1e-6)
