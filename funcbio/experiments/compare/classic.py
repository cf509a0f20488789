"""The classic training loop: a converted module, ``backward()`` and an optimizer of torch, run by run."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

import funcbio
from funcbio.experiments.compare.history import History, stack
from funcbio.experiments.compare.settings import Settings
from funcbio.experiments.data import Digits
from funcbio.experiments.nets import mlp
from funcbio.experiments.sweep_parts import accuracy
from funcbio.mechanisms import fixed_rates


class Measured(NamedTuple):
    """Holds the results of one run; see ``History``."""

    test_accuracy: Tensor
    train_loss: Tensor
    rate_start: Tensor
    rate_end: Tensor


def train_one(settings: Settings, digits: Digits, variant: str, seed: int, tick: Callable[[], None]) -> Measured:
    """Trains one network of a variant, "plain" or "bio"."""
    torch.manual_seed(seed)
    model: Any = mlp(settings.hidden)
    # Drawn before the conversion, so that both variants of a seed start alike and see the same batches.
    orders = [torch.randperm(len(digits.train_x)) for _ in range(settings.epochs)]
    if variant == "bio":
        model = funcbio.BioConverter(settings.config).convert(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=settings.lr(variant))
    start, losses, accuracies = rate_factors(model), [], []
    for epoch, order in enumerate(orders):
        if variant == "bio" and settings.rejuvenates(epoch):
            model.rejuvenate_weights()
        losses.append(train_epoch(model, optimizer, settings, digits, order, bio=variant == "bio"))
        with torch.no_grad():
            accuracies.append(accuracy(model(digits.test_x), digits.test_y))
        tick()
    return Measured(stack(accuracies), stack(losses), start, rate_factors(model))


def train_epoch(
    model: Any, optimizer: torch.optim.Optimizer, settings: Settings, digits: Digits, order: Tensor, *, bio: bool
) -> Tensor:
    """Learns from every full batch once and returns the mean loss."""
    losses, moving = [], fixed_rates(settings.config) is None
    for index in range(len(order) // settings.batch_size):
        batch = order[index * settings.batch_size :][: settings.batch_size]
        optimizer.zero_grad()
        loss = F.cross_entropy(model(digits.train_x[batch]), digits.train_y[batch])
        loss.backward()
        if bio:
            model.crystallize()
            model.volume_dependent_lr()
            model.fuzzy_learning_rates()
            if moving:
                model.update_fuzzy_learning_rates()
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses).mean()


def rate_factors(model: Any) -> Tensor:
    """Returns the rate factors of all synapses of a converted model in one row; empty for a plain model."""
    bio_mods = [module for module in model.modules() if isinstance(module, funcbio.BioModule)]
    rates = [bio.fuzzy_learning_rate_parameters.flatten() for bio in bio_mods]
    return torch.cat(rates).clone() if rates else torch.empty(0)


def train(settings: Settings, digits: Digits, variant: str, seeds: list[int], tick: Callable[[], None]) -> History:
    """Trains one run for every seed, one after the other; ``tick`` is called after every epoch of a run."""
    begun = time.perf_counter()
    runs = [train_one(settings, digits, variant, seed, tick) for seed in seeds]
    seconds = time.perf_counter() - begun
    accuracies, losses = (torch.stack(rows) for rows in list(zip(*runs, strict=True))[:2])
    start, end = (torch.cat(rows) for rows in list(zip(*runs, strict=True))[2:])
    return History("classic", variant, settings.lr(variant), seeds, accuracies, losses, start, end, seconds)
