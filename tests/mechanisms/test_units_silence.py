"""Self-normalized resets: stretches that are counted, patience that is learned from them, and resets."""

from itertools import pairwise

import pytest
import torch
from unit_cases import small, state_of, values

import funcbio
from funcbio import key
from funcbio.mechanisms._self_normalized_resets import counted_stretches, learned_patience
from funcbio.mechanisms._unit_fields import STRETCHES


def histogram(*stretches):
    """Counts of the stretches of one unit."""
    found = torch.zeros(1, len(STRETCHES), dtype=torch.int32)
    for length in stretches:
        found = counted_stretches(found, torch.tensor([length], dtype=torch.int32), torch.tensor([True]))
    return found


def test_columns_by_hand():
    assert STRETCHES[:19] == (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 17, 19, 20, 22)
    assert STRETCHES[-1] == 65535
    assert max(after / (before + 1) for before, after in pairwise(STRETCHES)) < 1.1  # By how much one counts as longer.


def test_a_stretch_is_counted_where_it_ends():
    found = histogram(1, 3, 3, 16, 0, 70_000)[0]
    assert found.sum() == 5  # One of length 0 is none.
    assert {STRETCHES[i]: found[i].item() for i in found.nonzero().flatten()} == {1: 1, 3: 2, 17: 1, 65535: 1}
    nothing = counted_stretches(torch.zeros(1, len(STRETCHES)), torch.tensor([4]), torch.tensor([False]))
    assert not nothing.any()


@pytest.mark.parametrize(
    ("stretches", "patience", "percentile", "expected"),
    [
        ([1, 2, 3, 4], 50.0, 0.5, 2.0),
        ([1, 2, 3, 4], 50.0, 0.51, 3.0),
        ([1, 2, 3, 4], 50.0, 0.99, 4.0),
        ([5] * 99 + [9], 50.0, 0.99, 5.0),
        ([5] * 98 + [9] * 2, 50.0, 0.99, 9.0),
        ([9, 9, 9], 8.0, 0.99, 16.0),  # Cut off by resets at 9 calls: the patience was too short to tell.
        ([9, 9, 9], 9.0, 0.99, 9.0),
        ([], 50.0, 0.99, 50.0),  # Published code learns the least there is from nothing.
    ],
)
def test_patience_by_hand(stretches, patience, percentile, expected):
    assert learned_patience(histogram(*stretches), torch.tensor([patience]), percentile).tolist() == [expected]


def live(signals, **options):
    """Runs a layer of units through calls with these signals, a row each; returns who was reset when, and the state."""
    rows = torch.tensor(signals)
    net, table = small(rows.shape[1])
    params, resets = values(net), []
    state = state_of(net, table, "self_normalized_resets")
    for row in rows:
        state.units["signal"]["0.weight"] = row
        params, _, state = funcbio.self_normalized_resets(params, params, state, key=key(1), units=table, **options)
        resets.append(state.replaced["0.weight"][:, 0].tolist())
    return torch.tensor(resets), {field: tree["0.weight"] for field, tree in state.units.items()}


def test_a_unit_is_reset_once_it_is_silent_for_longer_than_its_patience():
    resets, kept = live([[1.0, 0.0]] * 7, patience=2)
    assert resets[:, 1].tolist() == [False, False, True, False, False, True, False]
    assert not resets[:, 0].any()
    assert kept["unit_silence"].tolist() == [0, 1]
    assert kept["unit_histogram"][:, :4].tolist() == [[0, 0, 0, 0], [0, 0, 2, 0]]
    assert kept["unit_patience"].tolist() == [2.0, 2.0]


def test_each_unit_learns_from_its_own_stretches():
    """One is silent in every other call, one for three of four; then both are for good."""
    rows = [[float(t % 2 == 0), float(t % 4 == 0)] for t in range(40)] + [[0.0, 0.0]] * 8
    resets, kept = live(rows, patience=30, every=40)
    assert kept["unit_patience"].tolist() == [1.0, 3.0]
    # Both are silent when they have learned: one for 1 call, the other for 3.
    assert resets.nonzero().tolist() == [[40, 0], [40, 1], [42, 0], [44, 0], [44, 1], [46, 0]]


def test_a_unit_that_always_fires_is_not_reset_at_its_first_silent_call():
    resets, kept = live([[1.0]] * 30 + [[0.0]] * 8, patience=5, every=10)
    assert kept["unit_patience"].tolist() == [5.0]
    assert resets.nonzero().tolist() == [[35, 0]]


def test_patience_that_cuts_off_what_is_usual_doubles():
    """The unit fires at every tenth call."""
    rows = [[float(t % 10 == 9)] for t in range(120)]
    resets, kept = live(rows, patience=2, every=30)
    number = resets[:, 0].reshape(4, 30).sum(1).tolist()
    assert number == [9, 3, 3, 0]
    assert kept["unit_patience"].tolist() == [9.0]


def test_patience_is_bounded():
    rows = [[float(t % 2 == 0), float(t % 13 == 0)] for t in range(130)]
    for bounds in ({"minimum": 4, "maximum": 8}, {"minimum": 4, "maximum": 65535}):
        _, kept = live(rows, patience=64, every=130, **bounds)
        assert kept["unit_patience"].tolist() == [4.0, min(12.0, bounds["maximum"])]


def test_silence_may_be_more_than_zero():
    """A GELU is never exactly 0."""
    resets, _ = live([[0.01, 0.2]] * 4, patience=1, silent=0.05)
    assert resets[:, 0].tolist() == [False, True, False, True]
    assert not resets[:, 1].any()


def test_the_share_of_false_resets_is_at_most_what_the_percentile_leaves():
    """Silent stretches of a unit that fires by chance are longer than the percentile at a share of 1 - p at most."""
    generator = torch.Generator().manual_seed(0)
    rows = (torch.rand(4000, 30, generator=generator) < 0.3).float().tolist()
    resets, _ = live(rows, patience=100, every=2000, percentile=0.9)
    fired = torch.tensor(rows)[2000:]
    stretches = ((fired[:-1] > 0.0) & (fired[1:] == 0.0)).sum()
    share = resets[2000:].sum() / stretches
    assert 0.02 < share < 0.1 + 4 * (0.1 * 0.9 / stretches) ** 0.5
