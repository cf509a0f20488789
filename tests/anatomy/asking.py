"""A model with a way of one's own through its two layers, and questions about its units."""

import torch
from answers import found
from torch import nn

from funcbio import units


class Model(nn.Module):
    """Two layers, and a way through them and to the output."""

    def __init__(self, way):
        super().__init__()
        self.way, self.fc, self.head = way, nn.Linear(2, 3), nn.Linear(3, 1)

    def forward(self, *args, **kwargs):
        return self.way(self, *args, **kwargs)


def hidden(model, x):
    return model.fc(x).relu()


def ask(way, *example, **kwargs):
    return units(Model(way), *(example or ([] if kwargs else [torch.ones(4, 2)])), **kwargs)


def feeds(table, source="fc.weight"):
    return found(table)[source].feeds


def replaceable(table, source="fc.weight"):
    return found(table)[source].replaceable
