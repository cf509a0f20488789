"""A table of units prints as rows that a reader can check by eye."""

import pytest
import torch
from architectures import ARCHITECTURES

from funcbio import Units, units
from funcbio.anatomy._units_table import MOST, runs

CONVOLUTION = """\
0.weight (2) -> 5.weight: 0..1 each 4 times | alone
              + 1 (scale, offset, mean, variance): 0..1
                can be replaced: 2 of 2
5.weight (1) -> no weight
                can be replaced: 0 of 1"""

ATTENTION = """\
wte.weight (4) -> c_attn.weight: 0..3 | with others
               -> c_fc.weight:   0..3 | with others
               -> wte.weight:    0..3 | with others
                  can be replaced: 0 of 4
c_attn.weight (12) -> c_proj.weight: 8..11 | alone
                      can be replaced: 4 of 12
c_proj.weight (4) -> c_fc.weight: 0..3 | with others
                  -> wte.weight:  0..3 | with others
                     can be replaced: 0 of 4
c_fc.weight (3) -> m_proj.weight: 0..2 | alone
                   can be replaced: 3 of 3
m_proj.weight (4) -> wte.weight: 0..3 | with others
                     can be replaced: 0 of 4
unknown:
  wte.weight: used in two directions, the units of the second are not listed"""

DENSE = """\
a.weight (2) -> b.weight:    0..1 | alone
             -> c.weight:    0..1, 2 times - | alone
             -> head.weight: 0..1, 3 times - | alone
              + norm (scale, offset, mean, variance): 0..1, 2 times -
                can be replaced: 2 of 2
b.weight (2) -> c.weight:    2 times -, 0..1 | alone
             -> head.weight: 2 times -, 0..1, - | alone
              + norm (scale, offset, mean, variance): 2 times -, 0..1
                can be replaced: 2 of 2
c.weight (1) -> head.weight: 4 times -, 0 | alone
                can be replaced: 1 of 1
head.weight (1) -> no weight
                   can be replaced: 0 of 1"""

RECURRENT = """\
words.weight (2) -> rnn.weight_ih_l0: 0..1 | alone
                    can be replaced: 2 of 2
rnn.weight_hh_l0 (3) -> rnn.weight_hh_l0: 0..2 | alone
                     -> head.weight:      0..2 | alone
                      + rnn (incoming, bias): 0..2, 4 times over
                        can be replaced: 3 of 3
head.weight (1) -> no weight
                   can be replaced: 0 of 1"""

FUSED = """\
both.weight (6) -> down.weight: mixed
                   can be replaced: 0 of 6
down.weight (1) -> no weight
                   can be replaced: 0 of 1"""

PRINTED = {"convolution": CONVOLUTION, "GPT": ATTENTION, "DenseNet": DENSE, "LSTM": RECURRENT, "SwiGLU, fused": FUSED}


@pytest.mark.parametrize("name", PRINTED)
def test_table_prints_a_row_for_every_weight_that_units_reach(name):
    net = ARCHITECTURES[name]
    assert str(units(net.make(), *net.example)) == PRINTED[name]


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_weight_and_every_sentence_is_printed(name):
    net = ARCHITECTURES[name]
    made = units(net.make(), *net.example)
    lines = str(made).splitlines()
    arrows = sum("-> " in line and "no weight" not in line for line in lines)
    assert arrows == sum(len(population.edges) for population in made.values())
    assert sum("can be replaced" in line for line in lines) == len(made)
    assert all(f"  {sentence}" in lines for sentence in net.unknown)


def test_a_line_says_how_many_can_be_replaced():
    net = ARCHITECTURES["DenseNet"]
    assert repr(units(net.make(), *net.example)) == "Units(4 populations; can be replaced: 5 of 6 units)"


def test_an_empty_table_says_so():
    assert str(Units()) == "no units"


@pytest.mark.parametrize(
    ("owner", "shown"),
    [
        ([*range(64)], "0..63"),
        ([unit for unit in range(64) for _ in range(49)], "0..63 each 49 times"),
        ([*range(64)] * 49, "0..63, 49 times over"),
        ([*range(6)] * 2, "0..5, 0..5"),
        ([-1] * 64, "-"),
        ([-2] * 64, "mixed"),
        ([-2, -2, 0, 1], "2 times mixed, 0..1"),
        ([-1, 0, -1], "-, 0, -"),
        ([0, 0, 1, 1, -1, 4], "0..1 each 2 times, -, 4"),
        ([3], "3"),
        ([3, 3], "2 times 3"),
        ([2, 0, 1], "2, 0..1"),
        ([0, 0, 1], "2 times 0, 1"),
        ([], ""),
    ],
)
def test_runs_are_shown_in_short(owner, shown):
    assert runs(torch.tensor(owner)) == shown


def test_long_orders_are_cut():
    shown = runs(torch.arange(99).flip(0))
    assert shown.split(", ") == ["98", "97", "96", "95", "94", "93", "92", "...", "0"]
    assert len(shown.split(", ")) == MOST + 1
