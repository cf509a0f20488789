"""Recurrent networks: a hidden unit has a row for each of its gates, and feeds its own layer."""

import torch
from answers import Answer, Net, alone, last
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


class Reads(nn.Module):
    """Reads the last state of a recurrent layer."""

    def __init__(self, rnn, hidden):
        super().__init__()
        self.rnn, self.head = rnn, nn.Linear(hidden, 1)

    def forward(self, x):
        return self.head(self.rnn(x)[0][:, -1])


class Embedded(nn.Module):
    """Words, an LSTM, and its last state."""

    def __init__(self):
        super().__init__()
        self.words, self.rnn, self.head = nn.Embedding(5, 2), nn.LSTM(2, 3, batch_first=True), nn.Linear(3, 1)

    def forward(self, x):
        return self.head(self.rnn(self.words(x))[1][0][-1])


class Packed(nn.Module):
    """Sequences of different lengths."""

    def __init__(self):
        super().__init__()
        self.rnn, self.head = nn.RNN(2, 3, batch_first=True), nn.Linear(3, 1)

    def forward(self, x):
        packed = pack_padded_sequence(x, torch.tensor([3, 2]), batch_first=True)
        return self.head(pad_packed_sequence(self.rnn(packed)[0], batch_first=True)[0].sum(1))


class Loop(nn.Module):
    """A cell, step by step."""

    def __init__(self):
        super().__init__()
        self.cell, self.head = nn.RNNCell(2, 3), nn.Linear(3, 1)

    def forward(self, x):
        h = x.new_zeros(x.shape[0], 3)
        for t in range(x.shape[1]):
            h = self.cell(x[:, t], h)
        return self.head(h)


def rows(layer, suffix, units):
    return {f"{layer}.{kind}_{way}{suffix}": units for way in ("ih", "hh") for kind in ("weight", "bias")}


HEAD = last({"head.weight": [0], "head.bias": [0]})
FOUR_GATES, THREE_GATES = [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2], [0, 1, 0, 1, 0, 1]
LSTM = {
    "words.weight": Answer({"rnn.weight_ih_l0": alone(0, 1)}, {"words.weight": [0, 1]}, [0, 1]),
    "rnn.weight_hh_l0": Answer(
        {"rnn.weight_hh_l0": alone(0, 1, 2), "head.weight": alone(0, 1, 2)},
        rows("rnn", "_l0", FOUR_GATES),
        [0, 1, 2],
    ),
    "head.weight": HEAD,
}


def direction(suffix, feeds):
    return Answer({f"rnn.weight_hh{suffix}": alone(0, 1), **feeds}, rows("rnn", suffix, THREE_GATES), [0, 1])


def above(owner):
    return {f"rnn.weight_ih_l1{way}": alone(*owner) for way in ("", "_reverse")}


GRU = {
    "rnn.weight_hh_l0": direction("_l0", above((0, 1, -1, -1))),
    "rnn.weight_hh_l0_reverse": direction("_l0_reverse", above((-1, -1, 0, 1))),
    "rnn.weight_hh_l1": direction("_l1", {"head.weight": alone(0, 1, -1, -1)}),
    "rnn.weight_hh_l1_reverse": direction("_l1_reverse", {"head.weight": alone(-1, -1, 0, 1)}),
    "head.weight": HEAD,
}


def simple(layer, suffix):
    hidden = f"{layer}.weight_hh{suffix}"
    feeds = {hidden: alone(0, 1, 2), "head.weight": alone(0, 1, 2)}
    return {hidden: Answer(feeds, rows(layer, suffix, [0, 1, 2]), [0, 1, 2]), "head.weight": HEAD}


STEPS = (torch.rand(2, 3, 2),)

RECURRENT = {
    "LSTM": Net(Embedded, (torch.tensor([[0, 1, 2], [3, 4, 0]]),), LSTM),
    "bidirectional GRU of two layers": Net(
        lambda: Reads(nn.GRU(2, 2, num_layers=2, bidirectional=True, batch_first=True), 4), STEPS, GRU
    ),
    "RNNCell": Net(Loop, STEPS, simple("cell", "")),
    "packed sequence": Net(Packed, STEPS, simple("rnn", "_l0")),
}
