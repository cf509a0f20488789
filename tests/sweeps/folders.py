"""Sweeps in folders: many settings, each begun in one process and gone on with in another, wherever the file lies."""

import functools
import json
import math
import sys
import threading
import warnings
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

import funcbio
from funcbio import BioConfig, Mechanism

SCALE = 0.5


def points(count=24):
    x = torch.randn(count, 6, generator=torch.Generator().manual_seed(1))
    return x, (x[:, 0] > 0).long()


def scaled(k):
    def scale(params, grads, state, /, *, key=None, much=1.0):
        return params, {name: k * much * SCALE * g for name, g in grads.items()}, state

    return scale


class Act(nn.Module):
    def __init__(self, act=torch.tanh, power=1.0):
        super().__init__()
        self.layer, self.act, self.power = nn.Linear(6, 2), act, power

    def forward(self, x):
        return self.act(self.layer(x)) * self.power


class Step:
    """A functional optimizer."""

    def __init__(self, rate=0.1):
        self.rate = rate

    def init(self, params):
        return {name: torch.zeros_like(p) for name, p in params.items()}

    def update(self, grads, state, params=None):
        return {name: -self.rate * g for name, g in grads.items()}, state


class Opaque:
    """A loss behind something that cannot be looked at."""

    def __init__(self, factor=1.0):
        self.lock, self.hidden = threading.Lock(), lambda loss: factor * loss

    def __call__(self, output, target):
        return self.hidden(F.cross_entropy(output, target))


def convolutional():
    return nn.Sequential(
        nn.Unflatten(1, (1, 6)), nn.Conv1d(1, 4, 3), nn.BatchNorm1d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2)
    )


def recurrent():
    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.head = nn.LSTM(2, 4), nn.Linear(4, 2)

        def forward(self, x):
            return self.head(self.rnn(x.view(-1, 3, 2).transpose(0, 1))[0][-1])

    return Last()


def stream(key):
    x = funcbio.normal(key, (8, 6)) * SCALE
    return x, (x[:, 0] > 0).long()


BASE = {
    "model": lambda: nn.Linear(6, 2),
    "loss": F.cross_entropy,
    "data": points(),
    "steps": 2,
    "batch_size": 8,
    "lr": 0.5,
    "seeds": 2,
    "progress": False,
}

SETTINGS = {
    "plain": {},
    "lambda": {"loss": lambda output, target: F.cross_entropy(output, target, label_smoothing=0.1)},
    "partial": {"loss": functools.partial(F.cross_entropy, label_smoothing=0.1)},
    "module": {"loss": nn.CrossEntropyLoss(label_smoothing=0.1)},
    "opaque": {"loss": Opaque(), "seeds": [3]},
    "own mechanism": {"mechanisms": [scaled(2.0), Mechanism(scaled(3.0), every=2, hyper={"much": "base_lr"})]},
    "mechanisms": {
        "mechanisms": {"plain": [], "bio": ["crystallize", "fuzzy_learning_rates"]},
        "lr": None,
        "grid": {"lr": [0.1, 1]},
    },
    "configuration": {"config": BioConfig(weight_splitting_Gamma=2, weight_splitting_activation_function=torch.relu)},
    "own activation": {"model": lambda: Act(torch.relu, power=2.0)},
    "convolutional": {"model": convolutional},
    "recurrent": {"model": recurrent},
    "dropout": {"model": lambda: nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.3), nn.Linear(8, 2))},
    "stream": {"data": stream},
    "functional": {"optimizer": Step(0.2)},
    "options": {"optimizer": functools.partial(torch.optim.Adam, betas=(0.5, 0.9), eps=1e-6)},
    "measured": {"test": points(6), "metrics": {"mean": lambda output, target: output.mean()}, "record_every": 1},
    "folds": {"folds": [(range(12), range(12, 24)), (range(12, 24), range(12))]},
    "choice": {"synapses": lambda name, module: True, "share": ["weights", "noise"]},
}


def begin(folder, name):
    """Begins a sweep or goes on with it; returns its table, and what was warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = funcbio.sweep(**{**BASE, **SETTINGS[name]}, output=Path(folder) / name)
    table = {column: [repr(value) for value in values] for column, values in result.table.items()}
    return table, [str(warning.message) for warning in caught if "goes on" in str(warning.message)]


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[2]))
    found = {}
    for name in SETTINGS:
        try:
            found[name] = begin(sys.argv[1], name)
        except ValueError as error:
            found[name] = f"{error}", math.nan
    print(json.dumps(found))
