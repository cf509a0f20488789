"""Measures what each method of the arena adds to a training step: the table of costs in docs/results-arena.md.

Run it with ``python benchmarks/arena.py``. All methods on one thread, in turn, attached to Adam, uncompiled; a step is
forward, backward and ``optimizer.step()``. Resets that act every 16 or 100 steps are spread over that many steps.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from common import machine, pin
from rich.console import Console
from torch import nn
from torch.nn import functional as F

import funcbio
from funcbio.experiments.arena.methods import METHODS, PLAIN, Method, settings_of, spans_of
from funcbio.experiments.frame.files import prepare, write_json
from funcbio.experiments.frame.table import Table

SIZES = {"64-100-100-10": (64, 100, 16), "784-400-400-10": (784, 400, 100)}
"""Inputs, hidden units and batch of the two networks: that of the arena, and one with half a million weights."""

STEPS = 100
"""Steps of one measurement: a multiple of every period but 16, which is met six times."""


def network(inputs: int, hidden: int, norm: bool) -> nn.Sequential:
    """Makes the network of the arena at any width."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for width in (inputs, hidden):
        layers += [nn.Linear(width, hidden), *([nn.LayerNorm(hidden)] if norm else []), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(hidden, 10))


def stepper(method: Method, inputs: int, hidden: int, batch: int) -> Callable[[], None]:
    """Returns a function that makes one training step of a method, at the numbers with which its search begins."""
    net = network(inputs, hidden, method.norm)
    values = settings_of(method, [span.start for span in spans_of(method, "adam")])
    optimizer = torch.optim.AdamW(net.parameters(), values.pop("lr"), weight_decay=values.pop("weight_decay", 0.0))
    x, y = torch.randn(batch, inputs), torch.randint(10, (batch,))
    if method.mechanisms:
        config = funcbio.BioConfig(**{**method.fields, **values})
        funcbio.attach(optimizer, net, [*method.mechanisms], config=config, units=funcbio.units(net, x))

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()

    return step


def milliseconds(step: Callable[[], None]) -> float:
    """Returns the CPU time of a step, the mean of some."""
    began = time.process_time()
    for _ in range(STEPS):
        step()
    return 1e3 * (time.process_time() - began) / STEPS


def measured(size: tuple[int, int, int], rounds: int) -> dict[str, float]:
    """Returns the median time of a step of every method, all of them in turn, round by round."""
    steps = {method.name: stepper(method, *size) for method in METHODS}
    found: dict[str, list[float]] = {name: [] for name in steps}
    for round_ in range(rounds + 1):  # The first one warms up.
        for name, step in steps.items():
            value = milliseconds(step)
            found[name] += [value] if round_ else []
    return {name: statistics.median(values) for name, values in found.items()}


def table(found: dict[str, dict[str, float]]) -> Table:
    """Makes the table: the time of a plain step, and that of every method over it."""
    plain = {size: times[PLAIN] for size, times in found.items()}
    rows = [[PLAIN, *(f"{value:.2f} ms" for value in plain.values())]]
    names = [method.name for method in METHODS if method.name != PLAIN]
    rows += [[name, *(f"{times[name] / plain[size]:.2f}" for size, times in found.items())] for name in names]
    return Table(("method", *found), rows)


def main(options: Any) -> None:
    """Measures, prints the table and writes it."""
    pin(1)
    found = {size: measured(shape, options.rounds) for size, shape in SIZES.items()}
    folder = prepare(str(options.output))
    write_json(folder / "arena-cost.json", {"machine": machine(1), "rounds": options.rounds, "milliseconds": found})
    Console().print(table(found))
    (folder / "arena-cost.md").write_text(table(found).markdown() + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=Path("results/benchmarks"))
    main(parser.parse_args())
