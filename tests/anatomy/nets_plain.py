"""Layers in a line, and layers that are used as functions or twice."""

import torch
import torch.nn.functional as F
from answers import Answer, Net, alone, last, met, mixed
from torch import nn


class Twice(nn.Module):
    """One layer, used twice."""

    def __init__(self):
        super().__init__()
        self.fc, self.head = nn.Linear(3, 3), nn.Linear(3, 1)

    def forward(self, x):
        return self.head(self.fc(self.fc(x).relu()).relu())


class Behind(nn.Module):
    """One layer, used twice behind another."""

    def __init__(self):
        super().__init__()
        self.stem, self.fc, self.head = nn.Linear(2, 3), nn.Linear(3, 3), nn.Linear(3, 1)

    def forward(self, x):
        return self.head(self.fc(self.fc(self.stem(x).relu()).relu()).relu())


class Crelu(nn.Module):
    """The positive and the negative half of every unit."""

    def forward(self, x):
        return torch.cat([x.relu(), (-x).relu()], -1)


class Maxout(nn.Module):
    """The larger of two units that are far from each other."""

    def forward(self, x):
        return x.unflatten(-1, (2, -1)).amax(-2)


class Free(nn.Module):
    """A bare parameter, used as a function."""

    def __init__(self):
        super().__init__()
        self.w, self.b, self.head = nn.Parameter(torch.randn(3, 2)), nn.Parameter(torch.zeros(3)), nn.Linear(3, 1)

    def forward(self, x):
        return self.head(F.linear(x, self.w, self.b).relu())


class Bag(nn.Module):
    """Means of embeddings, and a classifier."""

    def __init__(self):
        super().__init__()
        self.words, self.head = nn.EmbeddingBag(5, 3), nn.Linear(3, 2)

    def forward(self, words, starts):
        return self.head(self.words(words, starts))


def weight_norm():
    """A layer whose weight is computed, before two others."""
    first = nn.utils.parametrizations.weight_norm(nn.Linear(2, 3))
    return nn.Sequential(first, nn.ReLU(), nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 1))


MLP = {
    "0.weight": Answer({"2.weight": alone(0, 1, 2)}, {"0.weight": [0, 1, 2], "0.bias": [0, 1, 2]}, [0, 1, 2]),
    "2.weight": Answer({"4.weight": alone(0, 1)}, {"2.weight": [0, 1], "2.bias": [0, 1]}, [0, 1]),
    "4.weight": last({"4.weight": [0], "4.bias": [0]}),
}
GELU = {
    "0.weight": Answer({"4.weight": alone(0, 1, 2)}, {"0.weight": [0, 1, 2], "1.weight": [0, 1, 2]}, [0, 1, 2]),
    "4.weight": last({"4.weight": [0], "4.bias": [0]}),
}
TWICE = {
    "fc.weight": Answer(
        {"fc.weight": met(0, 1, 2), "head.weight": alone(0, 1, 2)},
        {"fc.weight": [0, 1, 2], "fc.bias": [0, 1, 2]},
        [],  # The columns that they feed are also those of the input.
    ),
    "head.weight": last({"head.weight": [0], "head.bias": [0]}),
}
BEHIND = {
    "stem.weight": Answer({"fc.weight": met(0, 1, 2)}, {"stem.weight": [0, 1, 2], "stem.bias": [0, 1, 2]}, []),
    **TWICE,
}
CRELU = {
    "0.weight": Answer({"2.weight": alone(0, 1, 2, 0, 1, 2)}, {"0.weight": [0, 1, 2], "0.bias": [0, 1, 2]}, [0, 1, 2]),
    "2.weight": last({"2.weight": [0], "2.bias": [0]}),
}
MAXOUT = {
    "0.weight": Answer({"2.weight": mixed(2)}, {"0.weight": [0, 1, 2, 3], "0.bias": [0, 1, 2, 3]}, []),
    "2.weight": last({"2.weight": [0], "2.bias": [0]}),
}
FREE = {
    "w": Answer({"head.weight": alone(0, 1, 2)}, {"w": [0, 1, 2], "b": [0, 1, 2]}, [0, 1, 2]),
    "head.weight": last({"head.weight": [0], "head.bias": [0]}),
}
BAG = {
    "words.weight": Answer({"head.weight": alone(0, 1, 2)}, {"words.weight": [0, 1, 2]}, [0, 1, 2]),
    "head.weight": last({"head.weight": [0, 1], "head.bias": [0, 1]}),
}
NORMED = {"2.weight": MLP["2.weight"], "4.weight": MLP["4.weight"]}


def mlp():
    return nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 1))


def gelu():
    return nn.Sequential(nn.Linear(2, 3, bias=False), nn.RMSNorm(3), nn.GELU(), nn.Dropout(0.5), nn.Linear(3, 1))


PLAIN = {
    "MLP": Net(mlp, (torch.ones(4, 2),), MLP),
    "batch of one": Net(mlp, (torch.ones(1, 2),), MLP),
    "no batch": Net(mlp, (torch.ones(2),), MLP),
    "GELU and dropout": Net(gelu, (torch.ones(4, 2),), GELU),
    "CReLU": Net(lambda: nn.Sequential(nn.Linear(2, 3), Crelu(), nn.Linear(6, 1)), (torch.ones(4, 2),), CRELU),
    "maxout": Net(lambda: nn.Sequential(nn.Linear(2, 4), Maxout(), nn.Linear(2, 1)), (torch.ones(4, 2),), MAXOUT),
    "layer used twice": Net(Twice, (torch.ones(4, 3),), TWICE),
    "layer used twice behind another": Net(Behind, (torch.ones(4, 2),), BEHIND),
    "bare parameter": Net(Free, (torch.ones(4, 2),), FREE),
    "bags of words": Net(Bag, (torch.tensor([0, 1, 2, 3]), torch.tensor([0, 2])), BAG),
    "weight norm": Net(
        weight_norm,
        (torch.ones(4, 2),),
        NORMED,
        ("0: a product with a weight that is no parameter of the model, or a part of one",),
    ),
}
