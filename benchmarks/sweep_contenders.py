"""The contenders of the comparison of sweeps: networks trained in a loop, by a sweep, and by JAX."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import bio_transformations
import torch
from torch import nn

import funcbio
from funcbio.experiments.data import digits
from funcbio.experiments.nets import cnn, mlp

Runner = Callable[[int], tuple[float, int]]
BATCH, LR, LOOPED = 64, 1.0, 4

NETWORKS: dict[str, Callable[[], nn.Module]] = {"mlp": partial(mlp, 128), "cnn": cnn}


def looped(converter: Any, network: str, size: int) -> Runner:
    """A loop over seeds of converted models; the cost of a seed does not depend on how many there are."""
    data = digits()

    def member(seed: int) -> tuple[Any, torch.optim.Optimizer]:
        torch.manual_seed(seed)
        model = converter.convert(NETWORKS[network]())
        return model, torch.optim.SGD(model.parameters(), lr=LR)

    def run(steps: int) -> tuple[float, int]:
        members = [member(seed) for seed in range(min(size, LOOPED))]
        orders = torch.randint(len(data.train_x), (len(members), steps, BATCH))
        began = time.perf_counter()
        for (model, optimizer), order in zip(members, orders, strict=True):
            for batch in order:
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(data.train_x[batch]), data.train_y[batch]).backward()
                model.volume_dependent_lr()
                model.fuzzy_learning_rates()
                model.crystallize()
                optimizer.step()
        return time.perf_counter() - began, steps * len(members)

    return run


def run_sweep(network: str, size: int, steps: int, **options: Any) -> Any:
    """Runs our sweep."""
    data = digits()
    scaling = [funcbio.Mechanism(name, where="gradient") for name in ("volume_dependent_lr", "fuzzy_learning_rates")]
    return funcbio.sweep(
        NETWORKS[network],
        nn.functional.cross_entropy,
        (data.train_x, data.train_y),
        steps=steps,
        batch_size=BATCH,
        optimizer=torch.optim.SGD,
        lr=LR,
        mechanisms=[*scaling, "crystallize"],
        config=funcbio.BioConfig(),
        seeds=range(size),
        progress=False,
        **options,
    )


def swept(network: str, size: int, *, compile: bool) -> Runner:
    """Our sweep; what it compiles is forgotten after every call, so that no limit on recompilation is met."""

    def run(steps: int) -> tuple[float, int]:
        result = run_sweep(network, size, steps, compile=compile)
        torch.compiler.reset()
        return result.seconds, result.member_steps

    return run


def jax_task(network: str) -> Any:
    """Describes the work to the JAX version."""
    from jax_reference import Task

    data = digits()
    return Task(network, NETWORKS[network], data.train_x, data.train_y, BATCH, LR)


def contenders(network: str, size: int, chosen: list[str]) -> dict[str, Runner]:
    """Makes the chosen contenders; JAX is one for each of its forms."""
    made: dict[str, Runner] = {
        "release": looped(bio_transformations.BioConverter(), network, size),
        "classic": looped(funcbio.BioConverter(), network, size),
        "eager": swept(network, size, compile=False),
        "compiled": swept(network, size, compile=True),
    }
    made = {name: runner for name, runner in made.items() if name in chosen}
    if "jax" in chosen:
        from jax_reference import forms

        made |= forms(jax_task(network), list(range(size)))
    return made
