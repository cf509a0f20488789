"""Measures of a network after a task: weights, dormant units, effective ranks."""

import torch
from torch import Tensor
from torch.nn import functional as F

import funcbio
from funcbio import BioState, Tree
from funcbio.monitor import effective_rank
from funcbio.monitor._ranks import singular_values

ASLEEP = 0.025
"""A unit is dormant if its mean activation is at most this share of its layer's mean (Sokar et al., ICML 2023)."""

MEASURES = ("dormant", "weight_norm", "effective_rank", "feature_rank", "rate_mean")


def measure(params: Tree, rate: Tree, x: Tensor) -> dict[str, Tensor]:
    """Measures one member on images of the task, shape ``(count, 64)``.

    "dormant" is a share of hidden units; "weight_norm" is over all weights that are synapses; "effective_rank" is that
    of the weights, averaged over layers; "feature_rank" is the effective rank of the last hidden layer's activations.
    """
    hidden = activations(params, x)
    asleep = torch.cat([_asleep(layer) for layer in hidden])
    metrics = funcbio.metrics(params, (), BioState(rate=rate), ranks=True, quantiles=())["all"]
    values = {name: metrics[name] for name in ("weight_norm", "effective_rank", "rate_mean")}
    rank = effective_rank(singular_values(hidden[-1], 0))
    return values | {"dormant": asleep.float().mean(), "feature_rank": rank}


def activations(params: Tree, x: Tensor) -> list[Tensor]:
    """Returns the outputs of both layers of rectified units."""
    first = F.relu(F.linear(x, params["0.weight"], params["0.bias"]))
    return [first, F.relu(F.linear(first, params["2.weight"], params["2.bias"]))]


def _asleep(units: Tensor) -> Tensor:
    activity = units.mean(dim=0)
    return activity <= ASLEEP * activity.mean()
