"""A member starts from its seed, whatever other threads draw, and nobody else's numbers are moved."""

import threading
from contextlib import contextmanager

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset, random_split

import funcbio
from funcbio.sweeps._seeded import seeded


def together(model):
    return torch.cat([parameter.flatten() for parameter in model.parameters()])


def in_inference():
    with torch.inference_mode():
        return torch.cat([F.dropout(torch.ones(30)), F.alpha_dropout(torch.ones(30), training=True), torch.randn(3)])


def recomputed():
    weight = torch.ones(50, requires_grad=True)
    checkpoint(lambda x: F.dropout(x * weight) * x, torch.ones(50), use_reentrant=False).sum().backward()
    return weight.grad


def drawn_again():
    state = torch.get_rng_state()
    first = torch.rand(3)
    torch.set_rng_state(state)
    return torch.cat([first, torch.rand(3)])


def loaded():
    return torch.cat([b[0] for b in DataLoader(TensorDataset(torch.arange(30.0)), batch_size=4, shuffle=True)])


DRAWN = {
    "linear": lambda: together(nn.Linear(40, 30)),
    "convolution": lambda: together(nn.Conv2d(3, 4, 3)),
    "embedding": lambda: together(nn.Embedding(30, 20)),
    "recurrent": lambda: together(nn.LSTM(3, 4, 2)),
    "recurrent dropout": lambda: nn.LSTM(3, 4, 2, dropout=0.5)(torch.ones(5, 2, 3))[0],
    "transformer": lambda: together(nn.TransformerEncoderLayer(8, 2, batch_first=True)),
    "orthogonal": lambda: nn.init.orthogonal_(torch.empty(5, 4)),
    "truncated": lambda: nn.init.trunc_normal_(torch.empty(50)),
    "permutation": lambda: torch.randperm(50),
    "integers": lambda: torch.cat([torch.randint(9, (20,)), torch.randint(1, 9, (20,))]),
    "in place": lambda: torch.cat([torch.empty(9).normal_(), torch.empty(9).random_(4), torch.empty(9).exponential_()]),
    "out": lambda: torch.cat([torch.rand(9, out=torch.empty(9)), torch.randn(9, out=torch.empty(9))]),
    "like": lambda: torch.cat([torch.rand_like(torch.ones(9)), torch.randint_like(torch.ones(9), 3, 9)]),
    "means": lambda: torch.cat([torch.normal(0.0, 1.0, (9,)), torch.normal(torch.ones(9), torch.ones(9))]),
    "counts": lambda: torch.cat([torch.poisson(torch.ones(9)), torch.binomial(torch.ones(9) * 5, torch.ones(9) / 2)]),
    "choices": lambda: torch.multinomial(torch.ones(9), 5),
    "gamma": lambda: torch.distributions.Gamma(2.0, 1.0).sample((9,)),
    "dropout": lambda: F.dropout(torch.ones(50)),
    "without a generator": lambda: torch.native_dropout(torch.ones(50), 0.5, True)[0],
    "types": lambda: torch.cat([torch.randn(9, dtype=torch.float64), torch.randn(9, dtype=torch.float16)]),
    "default generator": lambda: torch.rand(3, generator=torch.default_generator),
    "own generator": lambda: torch.rand(3, generator=torch.Generator().manual_seed(3)),
    "split": lambda: torch.tensor(random_split(range(30), [10, 20])[0].indices),
    "loader": loaded,
    "seeded again": lambda: torch.rand(5, generator=torch.manual_seed(9)),
    "initial seed": lambda: torch.tensor(float(torch.initial_seed())),
    "state": drawn_again,
    "recomputed": recomputed,
    "inference": in_inference,
}


@contextmanager
def busy():
    """Keeps a thread drawing."""
    stop = threading.Event()

    def draw():
        while not stop.is_set():
            torch.rand(10)

    thread = threading.Thread(target=draw)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("name", DRAWN)
def test_what_is_drawn_is_what_follows_from_the_seed_and_the_process_goes_on_as_before(name):
    key = funcbio.key(5)
    high, low = key.tolist()
    torch.manual_seed((high & 0x7FFFFFFF) << 32 | (low & 0xFFFFFFFF))
    expected = DRAWN[name](), torch.rand(3)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    with seeded(key):
        found = DRAWN[name](), torch.rand(3)
    assert torch.equal(expected[0], found[0])
    assert torch.equal(expected[1], found[1])
    assert torch.equal(before, torch.get_rng_state())
    assert torch.random.default_generator is torch.default_generator


def start(seeds=(1, 2, 3)):
    x = torch.zeros(8, 20)
    make = lambda: nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 4))
    options = {"steps": 1, "batch_size": 8, "lr": 0.0, "progress": False}
    return funcbio.sweep(make, F.cross_entropy, (x, x[:, 0].long()), seeds=list(seeds), **options).member(1)


def test_a_thread_that_draws_and_a_sweep_do_not_disturb_one_another():
    alone = start()
    with busy():
        beside = [start() for _ in range(3)]
    assert all(torch.equal(alone[name], found[name]) for found in beside for name in alone)


def test_sweeps_in_two_threads_are_those_of_one_after_the_other():
    alone, found = start(), []
    threads = [threading.Thread(target=lambda: found.append(start())) for _ in range(3)]
    before = torch.get_rng_state()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    assert all(torch.equal(alone[name], other[name]) for other in found for name in alone)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.random.default_generator is torch.default_generator
