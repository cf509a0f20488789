"""Trains one variant with all its seeds at once and measures its curvature on the way."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, vmap

import funcbio
from funcbio import BioConfig, Key, Tree, fold_in
from funcbio.experiments.compare.functional import Run, train_epoch
from funcbio.experiments.data import Digits
from funcbio.experiments.flatness.curvature import extremes, hessian_product, trace
from funcbio.experiments.flatness.settings import Settings
from funcbio.experiments.nets import mlp


@dataclass(frozen=True)
class Variant:
    """Describes one row of the table: mechanisms between gradient and update, in order.

    ``lr`` is in units of the plain network's; ``rejuvenates`` replaces weak weights every few epochs.
    """

    name: str
    rules: tuple[str, ...] = ()
    lr: float = 1.0
    rejuvenates: bool = False


VARIANTS = (
    Variant("plain"),
    Variant("fuzzy rates", ("fuzzy_learning_rates",)),
    Variant("crystallization", ("crystallize", "fuzzy_learning_rates")),
    Variant("rejuvenation", rejuvenates=True),
    # It divides the rate of synapses by about ten, and that of biases by one.
    Variant("volume, 3 lr", ("volume_dependent_lr",), lr=3.0),
    Variant("volume, 10 lr", ("volume_dependent_lr",), lr=10.0),
    Variant("all, 3 lr", ("crystallize", "volume_dependent_lr", "fuzzy_learning_rates"), lr=3.0, rejuvenates=True),
)

FLOOR = 0.1
"""Floor of the rates under crystallization; without it many weights stop changing."""

MEASURES = ("train_loss", "test_accuracy", "largest", "smallest", "trace")


def train(settings: Settings, data: Digits, variant: Variant, tick: Callable[[], None]) -> dict[str, list[list[float]]]:
    """Trains a variant and measures it on the way; ``tick`` is called after every measurement.

    Returns, by measure, a row for every seed with a number for each of ``settings.moments``.
    """
    run, keys = make_run(settings, data, variant), vmap(funcbio.key)(torch.arange(settings.seeds))
    params, state = vmap(run.begin)(keys)
    lr, rows = torch.full((settings.seeds,), settings.lr * variant.lr), []
    for epoch in range(settings.epochs + 1):
        if epoch in settings.moments:
            rows.append(vmap(lambda one, key: measure(run, settings, one, key))(params, keys))
            tick()
        if variant.rejuvenates and settings.rejuvenates(epoch):
            params, state = vmap(run.rejuvenate, in_dims=(0, 0, 0, None))(params, state, keys, epoch)
        if epoch < settings.epochs:
            params, state, _ = train_epoch(run, settings.batch_size, params, state, lr, keys, epoch=epoch)
    return {name: torch.stack([row[name] for row in rows], dim=1).tolist() for name in MEASURES}


def make_run(settings: Settings, data: Digits, variant: Variant) -> Run:
    """Makes the run of a variant; crystallization alone starts from rates of 1."""
    net = mlp(settings.hidden)
    drawn = "uniform" if variant.name != "crystallization" else "baseline"
    bio: Any = funcbio.bind(net, BioConfig(fuzzy_lr_distribution=drawn, crystallization_floor=FLOOR))
    return Run(net, bio, funcbio.chain(*(getattr(bio, rule) for rule in variant.rules)), funcbio.observe(net), data)


def measure(run: Run, settings: Settings, params: Tree, key: Key) -> dict[str, Tensor]:
    """Measures one network: the loss of all training images, its curvature, and the accuracy on the test images."""
    x, y = run.digits.train_x, run.digits.train_y
    product, size = hessian_product(lambda tree: run.loss(tree, x, y), params)
    low, high = extremes(product, size, fold_in(key, "lanczos"), iterations=settings.iterations)
    total = trace(product, size, fold_in(key, "hutchinson"), probes=settings.probes)
    values = run.loss(params, x, y), run.accuracy(params), high, low, total
    return dict(zip(MEASURES, values, strict=True))
