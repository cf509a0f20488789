"""The models of the workers, each with the shape of one batch of its input."""

import torch
from group import report
from torch import nn

from funcbio import BioConverter, BioModule

CONFIG = {"apply_dales_principle": True, "fuzzy_lr_dynamic": True, "fuzzy_lr_distribution": "temporal"}
CONFIG |= {"fuzzy_lr_update_freq": 1, "crystal_thresh": 1e-2, "rejuvenation_parameter_dre": 3.0}


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x):
        return torch.relu(self.norm(self.conv(x)) + x)


class Net(nn.Module):
    """A body, then the mean over everything between batch and features, then a linear read-out."""

    def __init__(self, body, width, features):
        super().__init__()
        self.body, self.head, self.features = body, nn.Linear(width, 3), features

    def forward(self, x):
        y = self.body(x)
        y = (y[0] if isinstance(y, tuple) else y).movedim(self.features, 1)
        return self.head(y.flatten(2).mean(2) if y.ndim > 2 else y)


def mlp():
    return Net(nn.Sequential(nn.Linear(6, 7), nn.ReLU(), nn.Linear(7, 1), nn.Linear(1, 8), nn.ReLU()), 8, 1)


def resnet():
    stem = nn.Sequential(nn.Conv2d(2, 5, 3, bias=False), nn.BatchNorm2d(5), nn.ReLU())
    return Net(nn.Sequential(stem, Block(5), Block(5)), 5, 1)


def transformer():
    return Net(nn.TransformerEncoderLayer(8, 2, dim_feedforward=12, batch_first=True, dropout=0.0), 8, 2)


def gru():
    return Net(nn.GRU(3, 5, batch_first=True), 5, 2)


NETS = {"mlp": (mlp, (4, 6)), "resnet": (resnet, (4, 2, 6, 6)), "transformer": (transformer, (4, 3, 8))}
NETS["gru"] = (gru, (4, 5, 3))


def convert(model, **changes):
    """Converts a model with every parameter of two and more dimensions as synapses."""
    return BioConverter(synapses="*", **{**CONFIG, **changes})(model)


def layers(model):
    return [module for module in model.modules() if isinstance(module, BioModule)]


def batch(name, seed):
    return torch.randn(NETS[name][1], generator=torch.Generator().manual_seed(seed))


def backward(model, x):
    model.zero_grad()
    (model(x) - 1.0).square().mean().backward()


GRADIENT = ("volume_dependent_lr", "fuzzy_learning_rates", "crystallize")
WEIGHTS = ("enforce_dales_principle", "update_fuzzy_learning_rates")

__all__ = ["CONFIG", "GRADIENT", "NETS", "WEIGHTS", "backward", "batch", "convert", "layers", "report"]
