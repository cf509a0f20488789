"""Which unit feeds which input: what is found is what was written by hand, for every architecture."""

import pytest
from answers import found
from architectures import ARCHITECTURES

from funcbio import units


def table(name):
    net = ARCHITECTURES[name]
    return units(net.make(), *net.example)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_units_are_those_written_by_hand(name):
    net, made = ARCHITECTURES[name], table(name)
    assert found(made) == net.answers
    assert made.unknown == net.unknown


ROLES = {
    "convolution": {
        "0.weight": "incoming",
        "0.bias": "bias",
        "1.weight": "scale",
        "1.bias": "offset",
        "1.running_mean": "mean",
        "1.running_var": "variance",
    },
    "LSTM": {
        "rnn.weight_ih_l0": "incoming",
        "rnn.bias_ih_l0": "bias",
        "rnn.weight_hh_l0": "incoming",
        "rnn.bias_hh_l0": "bias",
    },
    "GELU and dropout": {"0.weight": "incoming", "1.weight": "scale"},
}


@pytest.mark.parametrize("name", ROLES)
def test_parts_have_the_roles_written_by_hand(name):
    parts = next(one.parts for one in table(name).values() if {part.name for part in one.parts} == {*ROLES[name]})
    assert {part.name: part.role for part in parts} == ROLES[name]


def test_rows_and_columns_lie_along_the_dimensions_of_the_weight():
    """GPT-2 keeps weights as (in, out), an embedding too; a transposed convolution has its inputs first."""
    layouts = {"c_attn.weight": (0, 1), "c_fc.weight": (0, 1), "wte.weight": (0, 1)}
    for name, (pre, post) in layouts.items():
        synapse = table("GPT")[name].parts[0].synapse
        assert (synapse.pre, synapse.post) == (pre, post)
    edges = {edge.weight: edge.synapse for one in table("GPT").values() for edge in one.edges}
    assert {name: (edge.pre, edge.post) for name, edge in edges.items()} == {
        "c_attn.weight": (0, 1),
        "c_proj.weight": (0, 1),
        "c_fc.weight": (0, 1),
        "m_proj.weight": (0, 1),
        "wte.weight": (1, 0),  # As a read-out.
    }
    synapse = table("grouped convolution")["4.weight"].parts[0].synapse
    assert (synapse.pre, synapse.post, synapse.groups) == (0, 1, 2)


UNREADABLE = {
    "MLP": [],
    "pre-norm Transformer": [],
    "GPT": ["wte.weight", "wte.weight", "wte.weight"],  # Owned by the embedding, used by the read-out.
    "LSTM": ["rnn.weight_hh_l0"],  # Its input is not seen.
    "MultiheadAttention": ["attn.in_proj_weight", "attn.out_proj.weight"],  # Used within a function.
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_signals_are_read_where_they_arrive_at_the_module_that_owns_the_weight(name):
    edges = [edge for population in table(name).values() for edge in population.edges]
    assert [edge.weight for edge in edges if not edge.readable] == UNREADABLE[name]
