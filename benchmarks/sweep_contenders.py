"""The contenders of the comparison of sweeps: networks trained in a loop, by a sweep, and by JAX."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import bio_transformations
import torch
from common import wait
from torch import nn

import funcbio
from funcbio.experiments.data import digits
from funcbio.experiments.nets import cnn, mlp
from funcbio.sweeps import _engine

Runner = Callable[[int], tuple[float, int]]
BATCH, LR, LOOPED = 64, 1.0, 4

NETWORKS: dict[str, Callable[[], nn.Module]] = {"mlp": partial(mlp, 128), "cnn": cnn}


def looped(converter: Any, network: str, size: int, device: str) -> Runner:
    """A loop over seeds of converted models; the cost of a seed does not depend on how many there are."""
    data = digits()
    train_x, train_y = data.train_x.to(device), data.train_y.to(device)

    def member(seed: int) -> tuple[Any, torch.optim.Optimizer]:
        torch.manual_seed(seed)
        model = converter.convert(NETWORKS[network]().to(device))
        return model, torch.optim.SGD(model.parameters(), lr=LR)

    def run(steps: int) -> tuple[float, int]:
        members = [member(seed) for seed in range(min(size, LOOPED))]
        orders = torch.randint(len(train_x), (len(members), steps, BATCH)).to(device)
        wait()
        began = time.perf_counter()
        for (model, optimizer), order in zip(members, orders, strict=True):
            for batch in order:
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(train_x[batch]), train_y[batch]).backward()
                model.volume_dependent_lr()
                model.fuzzy_learning_rates()
                model.crystallize()
                optimizer.step()
        wait()
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


class WaitingClock:
    """Stands for the module ``time`` in the sweep, whose clock does not wait for a GPU."""

    @staticmethod
    def perf_counter() -> float:
        """Waits for the GPU, and returns the time."""
        wait()
        return time.perf_counter()


def swept(network: str, size: int, *, compile: bool, device: str) -> Runner:
    """Our sweep; what it compiles is forgotten after every call, so that no limit on recompilation is met."""
    if device != "cpu":
        assert _engine.time in (time, WaitingClock), "the sweep should read its clock in funcbio.sweeps._engine"
        vars(_engine)["time"] = WaitingClock

    def run(steps: int) -> tuple[float, int]:
        result = run_sweep(network, size, steps, compile=compile, device=device)
        torch.compiler.reset()
        return result.seconds, result.member_steps

    return run


def jax_task(network: str) -> Any:
    """Describes the work to the JAX version."""
    from jax_reference import Task

    data = digits()
    return Task(network, NETWORKS[network], data.train_x, data.train_y, BATCH, LR)


def contenders(network: str, size: int, chosen: list[str], device: str) -> dict[str, Runner]:
    """Makes the chosen contenders; JAX is one for each of its forms."""
    made: dict[str, Runner] = {
        "release": looped(bio_transformations.BioConverter(), network, size, device),
        "classic": looped(funcbio.BioConverter(), network, size, device),
        "classic compiled": looped(funcbio.BioConverter(compile=True), network, size, device),
        "eager": swept(network, size, compile=False, device=device),
        "compiled": swept(network, size, compile=True, device=device),
    }
    made = {name: runner for name, runner in made.items() if name in chosen}
    if "jax" in chosen:
        from jax_reference import forms

        made |= forms(jax_task(network), list(range(size)))
    return made
