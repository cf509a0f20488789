"""Ways from a layer to the next: steps, gates and filters, and products that are not listed."""

import pytest
import torch
import torch.nn.functional as F
from answers import alone, met
from asking import Model, ask, feeds, hidden, replaceable
from torch import nn

from funcbio import units


class Spike(torch.autograd.Function):
    """A spike, with a derivative for training only."""

    @staticmethod
    def forward(_, x):
        return (x > 0).to(x)

    @staticmethod
    def backward(_, grad):
        return grad


WAYS = {
    "in another order": (lambda m, x: m.head(hidden(m, x).roll(1, -1)), alone(2, 0, 1)),
    "normalized": (lambda m, x: m.head(F.normalize(m.fc(x))), ([-2, -2, -2], [False, False, False])),
    "softmax": (lambda m, x: m.head(m.fc(x).softmax(-1)), ([-2, -2, -2], [False, False, False])),
    "the largest": (lambda m, x: m.head(m.fc(x).amax(-1, keepdim=True).expand(-1, 3)), ([-2] * 3, [False] * 3)),
    "with a number": (lambda m, x: m.head(torch.sigmoid(m.fc(x) + 1.0)), alone(0, 1, 2)),
    "gated by the input": (lambda m, x: m.head(m.fc(x) * x.sum(-1, keepdim=True)), alone(0, 1, 2)),
    "beside the input": (lambda m, x: m.head(m.fc(x) + x.sum(-1, keepdim=True)), met(0, 1, 2)),
    "detached": (lambda m, x: m.head(hidden(m, x).detach()), alone(0, 1, 2)),
    "rounded": (lambda m, x: m.head(m.fc(x).round().sign()), alone(0, 1, 2)),
    "spikes": (lambda m, x: m.head(Spike.apply(m.fc(x))), alone(0, 1, 2)),
    "the winner": (lambda m, x: m.head(F.one_hot(m.fc(x).argmax(-1), 3).to(x)), ([-2, -2, -2], [False, False, False])),
    "by NumPy": (lambda m, x: m.head(torch.from_numpy(hidden(m, x).detach().numpy())), alone(0, 1, 2)),
    "straight through": (lambda m, x: m.head(m.fc(x) + (m.fc(x).sign() - m.fc(x)).detach()), alone(0, 1, 2)),
    "in place": (lambda m, x: m.head(m.fc(x).relu_().mul_(2.0)), alone(0, 1, 2)),
    "at random": (lambda m, x: m.head(m.fc(x) * torch.rand(3)), alone(0, 1, 2)),
    "checkpointed": (
        lambda m, x: m.head(torch.utils.checkpoint.checkpoint(lambda y: hidden(m, y), x, use_reentrant=False)),
        alone(0, 1, 2),
    ),
}


@pytest.mark.parametrize("name", WAYS)
def test_way_to_the_next_layer_decides(name):
    way, answer = WAYS[name]
    assert feeds(ask(way, torch.rand(32, 2))) == {"head.weight": answer}


def test_gate_without_a_derivative_is_seen():
    """Units that reach a second layer by a step are not replaced as if they reached the first alone."""
    table = units(Stepped(None), torch.rand(8, 2))
    assert feeds(table) == {"more.weight": alone(0, 1, 2), "head.weight": ([-2, -2, -2], [False, False, False])}
    assert replaceable(table) == []


class Stepped(Model):
    """A step beside the way through a second layer."""

    def __init__(self, way):
        super().__init__(way)
        self.more = nn.Linear(3, 3)

    def forward(self, x):
        h = self.fc(x)
        return self.head(self.more(h.relu()) * (h > 0))


def test_output_without_a_derivative_is_seen():
    assert replaceable(ask(lambda m, x: (m.head(hidden(m, x)), (m.fc(x) > 0).float()))) == []


def test_functions_without_a_forward_derivative_are_named():
    """What arrives alone is found all the same; what does not is mixed."""
    spikes = ask(lambda m, x: m.head(Spike.apply(m.fc(x)) + x.sum(-1, keepdim=True)))
    assert feeds(spikes) == {"head.weight": ([-2, -2, -2], [False, False, False])}
    assert spikes.unknown == (
        "a function without a forward derivative: units that do not arrive alone are not told apart",
    )


class Fixed(Model):
    """A fixed filter in a buffer."""

    def __init__(self, way):
        super().__init__(way)
        self.register_buffer("filter", torch.ones(3, 1, 1))
        self.register_buffer("turn", torch.randn(3, 3))


def test_fixed_filters_are_functions_like_any_other():
    blur = Fixed(lambda m, x: m.head(F.conv1d(hidden(m, x)[..., None], m.filter, groups=3)[..., 0]))
    table = units(blur, torch.ones(4, 2))
    assert feeds(table) == {"head.weight": alone(0, 1, 2)}
    assert table.unknown == ()
    turned = units(Fixed(lambda m, x: m.head(hidden(m, x) @ m.turn)), torch.ones(4, 2))
    assert [*turned] == ["fc.weight", "head.weight"]
    assert replaceable(turned) == []


class Unlisted(Model):
    """A weight in a product whose units are not listed."""

    def __init__(self, way):
        super().__init__(way)
        self.more, self.experts = nn.Parameter(torch.randn(3, 3)), nn.Parameter(torch.randn(2, 3, 3))
        self.pair = nn.Bilinear(3, 3, 3)


@pytest.mark.parametrize(
    "way",
    [
        lambda m, x: m.head(torch.einsum("bi,io->bo", hidden(m, x), m.more)),
        lambda m, x: m.head((hidden(m, x) @ m.experts).sum(0)),
        lambda m, x: m.head(m.pair(hidden(m, x), hidden(m, x))),
        lambda m, x: m.head((m.more @ hidden(m, x).T).T),
        lambda m, x: m.head(F.linear(hidden(m, x), m.more * 2.0)),
    ],
)
def test_products_that_are_not_listed_are_named_and_mix(way):
    table = units(Unlisted(way), torch.ones(4, 2))
    assert len(table.unknown) == 1
    assert "a product with a weight" in table.unknown[0]
    assert replaceable(table) == []


def test_a_weight_that_the_model_computes_with_stays_as_it_was():
    model = Model(lambda m, x: m.head(F.linear(x, m.fc.weight / m.fc.weight.norm(), m.fc.bias)))
    before = model.fc.weight.detach().clone()
    assert [*units(model, torch.ones(4, 2))] == ["head.weight"]
    assert torch.equal(model.fc.weight, before)
    idle = Model(lambda m, x: m.head(F.pad(x, (0, 1))))
    before = idle.fc.weight.detach().clone()
    assert [*units(idle, torch.ones(4, 2))] == ["head.weight"]
    assert torch.equal(idle.fc.weight, before)
