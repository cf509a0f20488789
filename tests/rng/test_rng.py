"""Keys and draws: published vectors, statistics, and the same numbers everywhere."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from funcbio import bernoulli, beta, fold_in, gamma, key, normal, permutation, randint, rng, split, uniform
from funcbio.rng import _streams
from funcbio.rng._keys import site

# Known answers of Random123's kat_vectors: rounds, counter, key, result.
PI = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)
KNOWN = [
    (13, (0, 0), (0, 0), (0x9D1C5EC6, 0x8BD50731)),
    (13, (0xFFFFFFFF,) * 2, (0xFFFFFFFF,) * 2, (0xFD36D048, 0x2D17272C)),
    (13, PI[:2], PI[2:], (0xBA3E4725, 0xF27D669E)),
    (20, (0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
    (20, (0xFFFFFFFF,) * 2, (0xFFFFFFFF,) * 2, (0x1CB996FC, 0xBB002BE7)),
    (20, PI[:2], PI[2:], (0xC4923A9C, 0x483DF7A0)),
]
DRAWS = {
    "uniform": lambda k: uniform(k, (7, 3)),
    "normal": lambda k: normal(k, (7, 3)),
    "normal float64": lambda k: normal(k, (5,), dtype=torch.float64),
    "normal bfloat16": lambda k: normal(k, (5,), dtype=torch.bfloat16),
    "bernoulli": lambda k: bernoulli(k, 0.3, (9,)),
    "gamma": lambda k: gamma(k, 2.0, (9,)),
    "beta": lambda k: beta(k, 2.0, 3.0, (9,)),
    "randint": lambda k: randint(k, -3, 1 << 30, (7, 3)),
    "randint of each": lambda k: randint(k, 0, torch.tensor([[1], [5], [9]]), (3, 8)),
    "permutation": lambda k: permutation(k, 9),
    "split": lambda k: split(k, 3),
    "fold_in": lambda k: fold_in(k, 5),
    "fold_in name": lambda k: fold_in(k, "fc1.weight"),
}
RANDINT, PERMUTATION = [59, 65, 85, 42, 6, 10, 90, 72], [4, 5, 3, 0, 1, 7, 2, 6]
UNROLLED = ("gamma", "beta")
"""Draws by rejection: their graphs are so long that compiling takes half a minute."""


def word(value):
    return torch.tensor(value - (1 << 32) if value >> 31 else value, dtype=torch.int32)


@pytest.mark.parametrize(("rounds", "counter", "secret", "expected"), KNOWN)
def test_threefry_gives_the_published_answers(rounds, counter, secret, expected):
    found = rng.threefry2x32(torch.stack([word(w) for w in secret]), *map(word, counter), rounds=rounds)
    assert tuple(int(w) & 0xFFFFFFFF for w in found) == expected


def hashed(key, counter, rounds):
    """The same in Python's integers."""
    wrap, rotations = 0xFFFFFFFF, (13, 15, 26, 6, 17, 29, 16, 24)
    schedule = (*key, key[0] ^ key[1] ^ 0x1BD11BDA)
    x, y = ((word + part) & wrap for word, part in zip(counter, key, strict=True))
    for i in range(rounds):
        x, by = (x + y) & wrap, rotations[i % 8]
        y = (((y << by) | (y >> (32 - by))) & wrap) ^ x
        if i % 4 == 3:
            inject = i // 4 + 1
            x = (x + schedule[inject % 3]) & wrap
            y = (y + schedule[(inject + 1) % 3] + inject) & wrap
    return x, y


@pytest.mark.parametrize("rounds", [1, 4, 13, 20, 24, 32, 72])
def test_threefry_takes_any_number_of_rounds(rounds):
    found = rng.threefry2x32(torch.stack([word(w) for w in PI[2:]]), *map(word, PI[:2]), rounds=rounds)
    assert tuple(int(w) & 0xFFFFFFFF for w in found) == hashed(PI[2:], PI[:2], rounds)


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_vmap_over_keys_equals_a_loop(draw):
    keys = split(key(1), 4)
    assert torch.equal(torch.vmap(draw)(keys), torch.stack([draw(k) for k in keys]))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["uniform", "normal", "bernoulli", "randint", "randint of each", "permutation", "split", "fold_in"]
)
def test_compiled_equals_eager(name):
    compiled = torch.compile(DRAWS[name], fullgraph=True)(key(1))
    eager = DRAWS[name](key(1))
    if name == "normal":
        assert (compiled - eager).abs().max() <= 1e-6
    else:
        assert torch.equal(compiled, eager)


@pytest.mark.parametrize(
    "draw", [pytest.param(draw, marks=pytest.mark.slow if n in UNROLLED else (), id=n) for n, draw in DRAWS.items()]
)
def test_draws_trace_into_one_graph(draw):
    traced = torch.compile(draw, fullgraph=True, backend="aot_eager")(key(1))
    assert torch.equal(traced, draw(key(1)))


@pytest.mark.parametrize("threads", [1, 2])
def test_draws_do_not_depend_on_threads_or_tiles(threads, monkeypatch):
    whole = normal(key(2), (1000,))
    torch.set_num_threads(threads)
    monkeypatch.setattr(_streams, "TILE_BLOCKS", 7)
    assert torch.equal(normal(key(2), (1000,)), whole)


@given(start=st.integers(0, 60), length=st.integers(0, 60), seed=st.integers(-(2**63), 2**64 - 1))
@pytest.mark.parametrize("draw", [uniform, normal])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_part_of_a_draw_can_be_made_alone(draw, dtype, start, length, seed):
    whole = draw(key(seed), (120,), dtype=dtype)
    assert torch.equal(draw(key(seed), (length,), offset=start, dtype=dtype), whole[start : start + length])


@given(start=st.integers(0, 60), length=st.integers(0, 60), seed=st.integers(0, 99))
def test_a_part_of_whole_numbers_can_be_drawn_alone(start, length, seed):
    whole = randint(key(seed), -5, 1000, (120,))
    assert torch.equal(randint(key(seed), -5, 1000, (length,), offset=start), whole[start : start + length])


WIDTHS = [1, 2, 10, 1797, (1 << 24) + 1, 3 << 29, 1 << 31]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("low", [0, -7, -(1 << 63), (1 << 63) - (1 << 31)])
def test_a_whole_number_is_a_share_of_64_bits(low, width):
    """The share of the width that both words make as one number of 64 bits, in Python's integers."""
    second, first = (word & 0xFFFFFFFF for word in site("rows"))
    secret = tuple(int(word) & 0xFFFFFFFF for word in key(5))
    pairs = [hashed(secret, (position ^ first, second), 13) for position in range(70)]
    expected = [low + ((((one << 32) | other) * width) >> 64) for one, other in pairs]
    drawn = randint(key(5), low, low + width, (70,), stream="rows")
    assert drawn.dtype == torch.int64
    assert drawn.tolist() == expected
    assert randint(key(5), torch.tensor(low), torch.tensor(low) + width, (70,), stream="rows").tolist() == expected


def test_whole_numbers_and_orders_stay_what_they_are():
    assert randint(key(3), 0, 100, (8,)).tolist() == RANDINT
    assert permutation(key(3), 8).tolist() == PERMUTATION
    assert torch.equal(permutation(key(3), 500, stream="x"), uniform(key(3), (500,), stream="x").argsort(stable=True))


@pytest.mark.parametrize("width", [2, 7, 64])
def test_whole_numbers_come_equally_often(width):
    counts = torch.bincount(randint(key(7), 0, width, (100_000,)), minlength=width)
    assert len(counts) == width
    assert stats.chisquare(counts.numpy()).pvalue > 1e-4


def test_all_orders_come_equally_often():
    orders = torch.vmap(lambda k: permutation(k, 4))(split(key(8), 20_000))
    assert torch.equal(orders.sort(dim=1).values, torch.arange(4).expand(20_000, 4))
    _, counts = torch.unique(orders, dim=0, return_counts=True)
    assert len(counts) == 24
    assert stats.chisquare(counts.numpy()).pvalue > 1e-4


@pytest.mark.parametrize("count", [0, 1])
def test_orders_of_next_to_nothing(count):
    assert permutation(key(0), count).tolist() == [*range(count)]


def test_a_leaf_draws_the_same_whatever_else_is_in_the_tree():
    leaf, other = torch.zeros(5, 3), torch.zeros(4, dtype=torch.float64)
    alone = rng.normal_tree(key(0), "noise", {"w": leaf})["w"]
    among = rng.normal_tree(key(0), "noise", {"a": other, "b": torch.ones(()), "w": leaf, "z": leaf})
    assert torch.equal(among["w"], alone)
    assert among["a"].dtype == torch.float64
    assert not torch.equal(among["z"], alone)
    assert torch.equal(among["b"], torch.ones(()))
    assert torch.equal(alone, normal(key(0), (5, 3), stream="noise/w"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_uniforms_fill_the_half_open_interval(dtype):
    drawn = uniform(key(3), (100_000,), dtype=dtype).double()
    assert drawn.min() >= 0
    assert drawn.max() < 1
    # In half precision the distribution is a staircase, with steps of the type's precision.
    step = torch.finfo(dtype).eps if dtype.itemsize == 2 else 0.0
    assert stats.kstest(drawn.numpy() + 0.5 * step, "uniform").statistic < 1.95 / math.sqrt(len(drawn)) + step


TESTED = {
    "normal": (lambda k: normal(k, (100_000,), mean=2.0, std=3.0), stats.norm(2, 3)),
    "normal float64": (lambda k: normal(k, (100_000,), dtype=torch.float64), stats.norm()),
    "gamma above one": (lambda k: gamma(k, 6.25, (100_000,)), stats.gamma(6.25)),
    "gamma at one": (lambda k: gamma(k, 1.0, (100_000,)), stats.gamma(1.0)),
    "gamma below one": (lambda k: gamma(k, 0.4, (100_000,)), stats.gamma(0.4)),
    "beta": (lambda k: beta(k, 6.25, 6.25, (100_000,)), stats.beta(6.25, 6.25)),
    "beta below one": (lambda k: beta(k, 0.5, 2.0, (100_000,)), stats.beta(0.5, 2.0)),
}


@pytest.mark.parametrize(("draw", "law"), TESTED.values(), ids=TESTED)
def test_draws_follow_their_law(draw, law):
    assert stats.kstest(draw(key(11)).numpy(), law.cdf).pvalue > 1e-4


def test_both_halves_of_a_pair_are_independent_and_so_are_streams():
    drawn = normal(key(5), (200_000,)).double()
    limit = 4 / math.sqrt(100_000)
    assert abs(torch.corrcoef(torch.stack([drawn[::2], drawn[1::2]]))[0, 1]) < limit
    others = ({"key": key(6)}, {"key": key(5), "stream": "x"}, {"key": fold_in(key(5), 1)})
    for other in (normal(shape=(200_000,), **kwargs).double() for kwargs in others):
        assert abs(torch.corrcoef(torch.stack([drawn, other]))[0, 1]) < limit


def test_bits_are_balanced_over_consecutive_keys_and_counters():
    # The first word of 20,000 neighbouring keys: every bit is 1 half of the time, to 4.5 standard errors.
    words = torch.vmap(lambda seed: torch.stack(rng.threefry2x32(key(seed), word(0), word(0))))(torch.arange(20_000))
    ones = torch.stack([(words >> bit) & 1 for bit in range(32)]).double().mean(1)
    assert (ones - 0.5).abs().max() < 4.5 * 0.5 / math.sqrt(20_000)


def test_integers_fold_in_as_numbers_and_as_tensors():
    steps = torch.tensor([0, 1, 7, -1, 2**40])
    folded = torch.vmap(lambda step: fold_in(key(0), step))(steps)
    assert torch.equal(folded, torch.stack([fold_in(key(0), int(step)) for step in steps]))
    assert len({tuple(k.tolist()) for k in folded}) == len(steps)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: key("a"), "seed should be an integer; found 'a'"),
        (lambda: key(2**64), "should fit into 64 bits"),
        (lambda: key(torch.tensor(0.5)), "should be an integer tensor; found dtype torch.float32"),
        (lambda: fold_in(key(0), torch.tensor(True)), "should be an integer tensor"),
        (lambda: randint(key(0), 0, 2.5), "high should be an integer of 64 bits, .*; found 2.5"),
        (lambda: randint(key(0), True, 2), "low should be an integer of 64 bits, .*; found True"),
        (
            lambda: randint(key(0), 0, torch.tensor(2.5)),
            "high should be an integer of 64 bits, or a tensor of integers",
        ),
        (lambda: randint(key(0), 0, 1 << 65), "high should be an integer of 64 bits"),
        (lambda: randint(key(0), 5, 5), "high should be above low, 5, by at most 2147483648; found 5"),
        (lambda: randint(key(0), 0, (1 << 31) + 1), "high should be above low, 0, by at most 2147483648"),
        (lambda: randint(key(0), 0, torch.tensor([1, 2]), (3,)), r"high should broadcast to shape \(3,\)"),
        (lambda: randint(key(0), 0, torch.tensor(5), -1), "shape should be a sequence of integers >= 0; found -1"),
        (lambda: permutation(key(0), -1), "n should be an integer >= 0; found -1"),
        (lambda: permutation(key(0), True), "n should be an integer >= 0; found True"),
        (lambda: permutation(torch.zeros(2), 3), "key should be an int32 tensor"),
        (lambda: rng.normal_tree(None, "noise", {}), "key should be a key made by funcbio.key, because noise draws"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
