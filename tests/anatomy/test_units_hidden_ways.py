"""Ways of units that are no input of a weight: none may be lost, or a unit in use would be replaced."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Independent, Normal

from funcbio import units

X = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """Has layers a, b and c; a way says what happens to ``h``, the units of a, which always feed b alone."""

    def __init__(self, way):
        super().__init__()
        torch.manual_seed(0)
        self.way = way
        self.a, self.b, self.c, self.d = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2), nn.Linear(4, 4)
        self.norm, self.embedding = nn.LayerNorm(4), nn.Embedding(5, 4)
        self.w, self.kernel = nn.Parameter(torch.randn(4, 4)), nn.Parameter(torch.randn(4, 4, 1))
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x):
        h = self.a(x).relu()
        return self.b(h), self.way(self, x, h)


class Box:
    def __init__(self, inside):
        self.inside = inside


def masked(net, x, h):
    return net.c(net.attention(x[None], x[None], x[None], attn_mask=h[:, :3])[0])


def padded(net, x, h):
    return net.c(net.attention(x[None], x[None], x[None], key_padding_mask=h[:1, :3])[0])


BAGS = torch.tensor([0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1])

LOST = {
    "a sum in addmm": lambda net, x, h: net.c(torch.addmm(h, x, net.w)),
    "a bias of a product": lambda net, x, h: net.c(F.linear(x, net.w, h[0])),
    "a bias of a convolution": lambda net, x, h: net.c(F.conv1d(x[:, :, None], net.kernel, h[0])[:, :, 0]),
    "the scale of a norm": lambda net, x, h: net.c(F.layer_norm(net.d(x), (4,), h[0])),
    "the offset of a norm": lambda net, x, h: net.c(F.layer_norm(net.d(x), (4,), None, h[0])),
    "the offset of a norm of images": lambda net, x, h: net.c(F.instance_norm(x[:, :, None], bias=h[0])[:, :, 0]),
    "weights in a bag": lambda net, x, h: net.c(
        F.embedding_bag(BAGS.view(3, 4), net.embedding.weight, mode="sum", per_sample_weights=h)
    ),
    "weights in bags of any length": lambda net, x, h: net.c(
        F.embedding_bag(BAGS, net.embedding.weight, torch.tensor([0, 5, 6]), mode="sum", per_sample_weights=h.flatten())
    ),
    "the index of an embedding": lambda net, x, h: net.c(net.embedding(h.argmax(-1))),
    "the indices of a bag": lambda net, x, h: net.c(F.embedding_bag(h.argsort(-1)[:, :2], net.embedding.weight)),
    "a mask of attention": masked,
    "a mask of keys": padded,
    "a complex output": lambda net, x, h: torch.fft.fft(h),
    "a distribution": lambda net, x, h: Independent(Normal(h, 1.0), 1),
    "an object": lambda net, x, h: Box([h]),
}


@pytest.mark.parametrize("way", LOST)
def test_units_that_take_another_way_too_are_not_replaced(way):
    table = units(Net(LOST[way]), X)
    (edge,) = [edge for edge in table["a.weight"].edges if edge.weight == "b.weight"]
    assert edge.owner.tolist() == [0, 1, 2, 3]
    assert edge.exclusive.all()  # There they do arrive alone.
    assert not table["a.weight"].replaceable.any()


def test_without_another_way_the_same_units_may_be_replaced():
    assert units(Net(lambda net, x, h: net.c(net.d(x).relu())), X)["a.weight"].replaceable.all()


COMPUTED = {
    "a.weight": lambda net: net.a.weight.norm(),
    "a.bias": lambda net: net.a.bias.sum(),
    "b.weight": lambda net: F.normalize(net.b.weight)[0, 0],
}


@pytest.mark.parametrize("name", COMPUTED)
def test_units_are_not_replaced_if_the_model_also_computes_with_their_weights(name):
    table = units(Net(lambda net, x, h: net.c(net.d(x).relu()) * COMPUTED[name](net)), X)
    assert not table["a.weight"].replaceable.any()
    assert table["d.weight"].replaceable.all()
    assert table.unknown == (f"{name}: the model also computes with it in another way, which is not followed",)


def test_reading_shape_and_type_of_a_weight_is_no_computing():
    table = units(Net(lambda net, x, h: net.c(h.to(net.a.weight.dtype) * net.a.weight.shape[0])), X)
    assert table["a.weight"].replaceable.all()
    assert table.unknown == ()


class Free(nn.Module):
    def __init__(self, offset):
        super().__init__()
        self.w, self.offset, self.c = nn.Parameter(torch.ones(4, 4)), nn.Parameter(offset), nn.Linear(4, 2)

    def forward(self, x):
        return self.c((x @ self.w + self.offset).relu())


@pytest.mark.parametrize("offset", [torch.zeros(4), torch.full((4,), -2.0), torch.tensor([-1.0, 1.0, -1.0, 1.0])])
def test_a_free_offset_behind_a_gate_is_seen_whatever_its_sign(offset):
    for x in (X, X.repeat(20, 1)):
        edge = units(Free(offset), x)["w"].edges[0]
        assert edge.owner.tolist() == [0, 1, 2, 3]
        assert not edge.exclusive.any()


class Shut(nn.Module):
    """Adds inputs behind a gate, which positive ones shut."""

    def __init__(self):
        super().__init__()
        self.a, self.c = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.c(self.a(x) + (-x).relu())


@pytest.mark.parametrize("examples", [2, 64])
def test_a_gate_that_is_shut_for_the_examples_hides_no_input(examples):
    assert not units(Shut(), torch.ones(examples, 4))["a.weight"].replaceable.any()


class Two(nn.Module):
    """Uses one norm, and one bias, for the units of two layers."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = (nn.Linear(4, 4, bias=False) for _ in range(3))
        self.norm, self.bias = nn.LayerNorm(4), nn.Parameter(torch.zeros(4))

    def forward(self, x):
        one = self.norm(F.linear(x, self.a.weight, self.bias))
        return self.c(self.norm(F.linear(one.relu(), self.b.weight, self.bias)).relu())


def test_entries_of_two_layers_belong_to_neither():
    table = units(Two(), X)
    assert [[part.name for part in one.parts] for one in table.values()] == [["a.weight"], ["b.weight"], ["c.weight"]]
    assert table["a.weight"].replaceable.all()
    assert table["b.weight"].replaceable.all()


def test_biases_of_bag_and_rest_of_bags_are_counted_from_where_bags_end():
    class Bags(nn.Module):
        def __init__(self):
            super().__init__()
            self.bags, self.c = nn.EmbeddingBag(5, 4, include_last_offset=True), nn.Linear(4, 2)

        def forward(self, indices, offsets):
            return self.c(self.bags(indices, offsets))

    table = units(Bags(), BAGS, torch.tensor([0, 5, 12]))
    assert table["bags.weight"].edges[0].owner.tolist() == [0, 1, 2, 3]
    assert table["bags.weight"].replaceable.all()


def test_values_do_not_arrive_alone_where_bias_values_arrive_too():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(4, 2, add_bias_kv=True)

        def forward(self, x):
            return self.attention(x, x, x)[0]

    table = units(Attention(), X[:, None])
    assert not table["attention.in_proj_weight"].edges[0].exclusive.any()
    assert not table["attention.in_proj_weight"].replaceable.any()


def test_a_model_may_write_to_its_input():
    class Writes(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.c = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x, mask):
            mask.add_(1)
            return self.c(self.a(x.mul_(2.0)).relu())

    x, mask = X.double(), torch.zeros(3, dtype=torch.int64)
    table = units(Writes(), x, mask=mask)
    assert torch.equal(x, X.double())
    assert not mask.any()
    assert table["a.weight"].replaceable.all()


def test_a_model_that_goes_on_from_its_last_state_starts_anew_in_every_pass():
    class Goes(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell, self.c, self.state, self.all = nn.GRUCell(4, 3), nn.Linear(3, 2), None, []

        def forward(self, x):
            self.state = self.cell(x, self.state)
            self.all.append(self.state)
            return self.c(sum(self.all))

    net = Goes()
    assert units(net, X)["cell.weight_hh"].replaceable.all()
    assert net.state is None
    assert net.all == []


def test_dropout_that_a_model_never_switches_off_hides_no_unit():
    class Drops(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.c = nn.Linear(4, 16), nn.Linear(16, 2)

        def forward(self, x):
            return self.c(F.dropout(self.a(x).relu(), 0.9))

    assert units(Drops(), X[:1])["a.weight"].edges[0].owner.tolist() == [*range(16)]
