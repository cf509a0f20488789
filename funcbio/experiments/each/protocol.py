"""Protocol of the comparison: a network with one mechanism at a time, by two optimizers, as two sweeps for each."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.nn import functional as F

import funcbio
from funcbio import BioConfig, Mechanism
from funcbio.experiments.data import Digits, check_batch_size, digits, validation
from funcbio.experiments.each.settings import FIRST_TUNING_SEED, RATES, Settings
from funcbio.experiments.nets import mlp
from funcbio.experiments.sweep_parts import accuracy

PLAIN = "plain"
OPTIMIZERS = tuple(RATES)
FLOOR = 0.1
"""Floor of the rates under crystallization; without it they fall to zero."""


class Variant(NamedTuple):
    """Describes a network: its mechanisms, each in its default place, and fields of the configuration."""

    mechanisms: Sequence[str | Mechanism]
    fields: Mapping[str, Any]


NEUTRAL = {
    "fuzzy_lr_distribution": "uniform",
    "weight_splitting_Gamma": 0,
    "apply_dales_principle": False,
    "record_activity": False,
}
"""Values of fields that a variant does not set."""


def variants(settings: Settings) -> dict[str, Variant]:
    """Returns all networks that are compared; the plain one comes first."""
    rejuvenate = Mechanism("rejuvenate_weights", every=settings.rejuvenate_every)
    return {
        PLAIN: Variant([], {}),
        "fuzzy rates": Variant(["fuzzy_learning_rates"], {}),
        "volume-dependent rates": Variant(["volume_dependent_lr"], {}),
        "crystallization": Variant(["crystallize", "fuzzy_learning_rates"], {"fuzzy_lr_distribution": "baseline"}),
        "rejuvenation": Variant([rejuvenate], {}),
        "weight splitting": Variant([], {"weight_splitting_Gamma": 2}),
        "Dale's principle": Variant(["enforce_dales_principle"], {"apply_dales_principle": True}),
        "synaptic scaling": Variant(["scale_grad"], {"record_activity": True}),
    }


def chosen_variants(settings: Settings, names: Sequence[str] | None) -> dict[str, Variant]:
    """Returns the networks of some names, or all."""
    return {name: variant for name, variant in variants(settings).items() if names is None or name in names}


def tune(
    settings: Settings, optimizer: str, output: Path, names: Sequence[str] | None = None
) -> dict[str, dict[float, float]]:
    """Trains every variant at every learning rate, measured on a part of the training images.

    Returns the mean accuracy of every variant by learning rate.
    """
    seeds = range(FIRST_TUNING_SEED, FIRST_TUNING_SEED + settings.tuning_seeds)
    rates = dict.fromkeys(chosen_variants(settings, names), RATES[optimizer])
    table = _sweep(settings, optimizer, validation(digits()), rates, list(seeds), output)
    means: Any = table.groupby(["mechanisms", "lr"])["test_accuracy"].mean()
    return {name: {lr: float(means[name, lr]) for lr in RATES[optimizer]} for name in rates}


def final(settings: Settings, optimizer: str, rates: Mapping[str, float], output: Path) -> dict[str, list[float]]:
    """Trains every variant at its own learning rate; returns the test accuracy of every seed."""
    single = {name: (rate,) for name, rate in rates.items()}
    table = _sweep(settings, optimizer, digits(), single, list(range(settings.seeds)), output)
    parts = table.sort_values("seed").groupby("mechanisms")["test_accuracy"]
    return {name: parts.get_group(name).tolist() for name in rates}


def _sweep(
    settings: Settings,
    optimizer: str,
    data: Digits,
    rates: Mapping[str, Sequence[float]],
    seeds: list[int],
    output: Path,
) -> Any:
    check_batch_size(settings.batch_size, data)
    networks = chosen_variants(settings, [*rates])
    grid = [
        {"mechanisms": name, "lr": lr, **NEUTRAL, **variant.fields}
        for name, variant in networks.items()
        for lr in rates[name]
    ]
    sgd = partial(torch.optim.SGD, momentum=settings.momentum)
    result: Any = funcbio.sweep(
        partial(mlp, settings.hidden),
        F.cross_entropy,
        (data.train_x, data.train_y),
        steps=settings.steps,
        batch_size=settings.batch_size,
        optimizer=sgd if optimizer == "sgd" else torch.optim.Adam,
        mechanisms={name: list(variant.mechanisms) for name, variant in networks.items()},
        config=BioConfig(crystallization_floor=FLOOR),
        seeds=seeds,
        grid=grid,
        test=(data.test_x, data.test_y),
        metrics={"accuracy": accuracy},
        output=output,
        progress=True,
    )
    return result.to_pandas()
