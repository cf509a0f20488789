"""What the laws are tried on: models, their parameters, gradients and states, and the table of features."""

import math
from functools import partial

import torch
from optree import tree_map
from torch import nn

import funcbio
from funcbio import BioConfig, fold_in, init, key, normal
from funcbio._checks import is_within
from funcbio.mechanisms import ROWS


class Classifier(nn.Module):
    """A convolutional network with batch norm, nested containers, a grouped and a transposed convolution."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1, groups=2)
        )
        self.up = nn.ConvTranspose2d(4, 2, 2)
        self.head = nn.Linear(2 * 5 * 5, 3)

    def forward(self, x):
        return self.head(self.up(self.features(x)).flatten(1))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(3, 4, batch_first=True)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.gru(x)[0])


def mlp():
    return nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2))


def transformer():
    return nn.TransformerEncoderLayer(8, 2, dim_feedforward=16, batch_first=True, dropout=0.0)


# A model, and the shape of one batch of its input.
MODELS = {
    "mlp": (mlp, (7, 5)),
    "cnn": (Classifier, (3, 1, 4, 4)),
    "transformer": (transformer, (2, 3, 8)),
    "gru": (Recurrent, (2, 5, 3)),
}

EVERYTHING = BioConfig(apply_dales_principle=True, record_activity=True)


def _all_in_one(params, grads, state, /, *, key=None):
    return funcbio.chain(
        funcbio.volume_dependent_lr,
        funcbio.fuzzy_learning_rates,
        funcbio.crystallize,
        funcbio.rejuvenate_weights,
        partial(funcbio.update_fuzzy_learning_rates, every=1),
        funcbio.enforce_dales_principle,
    )(params, grads, state, key=key)


# Feature, and the hyper-parameters a sweep may reach, each with a value.
FEATURES = {
    "fuzzy_learning_rates": (funcbio.fuzzy_learning_rates, {}),
    "volume_dependent_lr": (funcbio.volume_dependent_lr, {"base_lr": 0.3, "stability": 1.5, "variability": 0.4}),
    "crystallize": (funcbio.crystallize, {"threshold": 0.5, "dampening": 0.7, "floor": 0.6}),
    "rejuvenate_weights lognormal": (partial(funcbio.rejuvenate_weights, variant="lognormal"), {"strength": 2.0}),
    "rejuvenate_weights uniform": (partial(funcbio.rejuvenate_weights, variant="uniform"), {"strength": 4.0}),
    "rejuvenate_weights 0.0.5": (partial(funcbio.rejuvenate_weights, variant="0.0.5"), {"strength": 2.0}),
    "apply_dales_principle": (funcbio.apply_dales_principle, {}),
    "enforce_dales_principle": (funcbio.enforce_dales_principle, {}),
    "scale_grad": (funcbio.scale_grad, {"target": 1.1, "gamma": 0.7, "minimum": 0.8, "maximum": 1.5}),
    "update temporal": (
        partial(funcbio.update_fuzzy_learning_rates, distribution="temporal", every=1),
        {"nu": 0.3, "decay": 0.9, "minimum": 0.95, "maximum": 1.05},
    ),
    "update weight_adaptive": (
        partial(funcbio.update_fuzzy_learning_rates, distribution="weight_adaptive"),
        {"nu": 0.3, "minimum": 0.8, "maximum": 1.2},
    ),
    "update activity": (
        partial(funcbio.update_fuzzy_learning_rates, distribution="activity"),
        {"nu": 0.3, "minimum": 0.8, "maximum": 1.2},
    ),
    "update weight_adaptive 0.0.5": (
        partial(funcbio.update_fuzzy_learning_rates, distribution="weight_adaptive", dynamic=False, variant="0.0.5"),
        {"nu": 0.3, "minimum": 0.8, "maximum": 1.2},
    ),
    "update activity 0.0.5": (
        partial(funcbio.update_fuzzy_learning_rates, distribution="activity", variant="0.0.5"),
        {"nu": 0.3, "minimum": 0.8, "maximum": 1.2},
    ),
    "a chain of them": (_all_in_one, {}),
}


def within_limits(name, hyper):
    """Tells whether a feature takes these hyper-parameters, by its row of the table."""
    feature = FEATURES[name][0]
    limits = ROWS[getattr(feature, "func", feature).__name__].limits
    inside = all(is_within(value, limits[one]) for one, value in hyper.items() if one in limits)
    return inside and hyper.get("minimum", 0) < hyper.get("maximum", math.inf)


# Types of the weights and of the rate factors.
TYPES = {
    "float32": (torch.float32, torch.float32),
    "float64": (torch.float64, torch.float64),
    "float16": (torch.float16, torch.float16),
    "bfloat16": (torch.bfloat16, torch.bfloat16),
    "float16, rates float32": (torch.float16, torch.float32),
    "float64, rates float32": (torch.float64, torch.float32),
    "float32, rates bfloat16": (torch.float32, torch.bfloat16),
}


def world(params, seed=0, synapses=None, config=EVERYTHING, dtype=torch.float32, rate_dtype=None):
    """Parameters, gradients and a lived-in state for a tree of parameters."""
    k = key(seed)
    params = tree_map(lambda p: p.detach().to(dtype), params)
    state = init(params, key=k, config=config, synapses=synapses)
    names = iter(range(10_000))
    grads = tree_map(lambda p: normal(fold_in(k, next(names)), p.shape, dtype=p.dtype), params)
    busy = tree_map(lambda c: c + 10 * torch.arange(c.numel()).reshape(c.shape) if c.ndim else c, state.activity)
    rate = tree_map(lambda r: r.to(rate_dtype or r.dtype), state.rate)
    return params, grads, state._replace(rate=rate, activity=busy)


def model_world(name, seed=0, dtype=torch.float32, config=EVERYTHING, rate_dtype=None):
    torch.manual_seed(seed)
    model = MODELS[name][0]()
    return world(dict(model.named_parameters()), seed, funcbio.synapses(model), config, dtype, rate_dtype)
