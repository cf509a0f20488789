"""Units that share a column with others, in any way, are not replaced."""

import pytest
import torch
from torch import nn

from funcbio import units


class Way(nn.Module):
    """Two layers, and a way between them that mixes some units."""

    def __init__(self, way):
        super().__init__()
        self.a, self.b, self.way = nn.Linear(4, 6), nn.Linear(6, 3), way

    def forward(self, x):
        return self.b(self.way(torch.relu(self.a(x))))


WAYS = {
    "sums of pairs": lambda h: torch.cat([h[:, :3], h[:, :3] + h[:, 3:]], -1),
    "a gate beside": lambda h: torch.cat([h[:, :3], h[:, :3] * torch.sigmoid(h[:, 3:])], -1),
    "running sums": lambda h: h.cumsum(-1),
}


@pytest.mark.parametrize("name", WAYS)
def test_a_unit_that_arrives_alone_at_one_channel_and_in_company_at_another_stays(name):
    table = units(Way(WAYS[name]), torch.randn(16, 4))
    assert not bool(table["a.weight"].replaceable.any())


class Tied(nn.Module):
    """A language model whose embedding is tied to its output, without any residual stream."""

    def __init__(self):
        super().__init__()
        self.words, self.rnn, self.out = nn.Embedding(9, 6), nn.LSTM(6, 6, batch_first=True), nn.Linear(6, 9)
        self.out.weight = self.words.weight

    def forward(self, x):
        return self.out(self.rnn(self.words(x))[0])


def test_units_whose_weights_are_others_too_stay():
    table = units(Tied(), torch.randint(9, (4, 5)))
    assert not any(bool(population.replaceable.any()) for population in table.values())


class Decoder(nn.Module):
    """A recurrent layer whose first state comes from another layer."""

    def __init__(self, kind):
        super().__init__()
        self.first, self.rnn, self.out = nn.Linear(3, 6), kind(4, 6, batch_first=True), nn.Linear(6, 2)

    def forward(self, z, x):
        h = torch.relu(self.first(z))[None]
        return self.out(self.rnn(x, (h, h) if isinstance(self.rnn, nn.LSTM) else h)[0])


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
def test_a_first_state_goes_on_with_the_states_of_the_layer(kind):
    table = units(Decoder(kind), torch.randn(2, 3), torch.randn(2, 5, 4))
    edges = {edge.weight: edge for edge in table["first.weight"].edges}
    assert set(edges) == {"rnn.weight_hh_l0", "out.weight"}
    for edge in edges.values():
        assert edge.owner.tolist() == [0, 1, 2, 3, 4, 5]
        assert not bool(edge.exclusive.any())
    assert not any(bool(population.replaceable.any()) for population in table.values())


def test_names_go_behind_that_of_a_module():
    table = units(Way(torch.tanh), torch.randn(4, 4))
    wrapped = units(nn.ModuleDict({"net": Way(torch.tanh)})["net"], torch.randn(4, 4)).under("net")
    assert [*wrapped] == ["net.a.weight", "net.b.weight"]
    assert wrapped["net.a.weight"].edges[0].weight == "net.b.weight"
    assert wrapped["net.a.weight"].parts[1].name == "net.a.bias"
    assert torch.equal(wrapped["net.a.weight"].replaceable, table["a.weight"].replaceable)
