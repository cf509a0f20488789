"""Measures what a step costs on many small layers, where calls take the time and not the arithmetic.

Run it with ``python benchmarks/small.py``. Two tables, in one process, in turn; every figure is a median.

- attach: ``optimizer.step()`` of plain SGD on 300 layers, over that of the same optimizer with nothing attached.
- outside: ``bio_step()`` of a model converted with ``compile=True``, less the time within its compiled programs.
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
from rich.table import Table
from torch import nn

import funcbio
from funcbio.engine import _packages
from funcbio.experiments.frame.files import prepare, write_json

LAYERS = 300
ATTACHED = {
    "rates": ["fuzzy_learning_rates"],
    "three mechanisms": ["crystallize", "volume_dependent_lr", "fuzzy_learning_rates"],
    "rejuvenation": ["rejuvenate_weights"],
}


def net(width: int, layers: int) -> nn.Module:
    """Makes a network with gradients, as after a backward pass."""
    torch.manual_seed(0)
    model = nn.Sequential(*[part for _ in range(layers) for part in (nn.Linear(width, width), nn.ReLU())])
    for parameter in model.parameters():
        parameter.grad = 1e-4 * torch.randn_like(parameter)
    return model


def milliseconds(call: Callable[[], Any], times: int) -> float:
    """Returns the time of a call, the mean of some."""
    began = time.perf_counter()
    for _ in range(times):
        call()
    return 1e3 * (time.perf_counter() - began) / times


def in_turn(calls: dict[str, Callable[[], Any]], times: int, rounds: int) -> dict[str, float]:
    """Returns the median time of each call, all of them in turn, round by round."""
    for call in calls.values():
        call()
    found = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            found[name].append(milliseconds(call, times))
    return {name: statistics.median(values) for name, values in found.items()}


def attached(width: int, rounds: int) -> list[dict[str, Any]]:
    """Measures attached optimizers."""
    calls, kept = {}, []
    for name, mechanisms in {"plain": [], **ATTACHED}.items():
        for compiled in (False, True) if mechanisms else (False,):
            model = net(width, LAYERS)
            optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
            if mechanisms:
                converter = funcbio.BioConverter(compile=compiled)
                kept.append(funcbio.attach(optimizer, model, mechanisms, converter=converter))
            calls[f"{name}, compiled" if compiled else name] = optimizer.step
    times = in_turn(calls, 3, rounds)
    plain = times.pop("plain")
    return [{"width": width, "mechanisms": name, "plain_ms": plain, "over_ms": t - plain} for name, t in times.items()]


class Clock:
    """Adds up the time within compiled programs."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.open = _packages.open_package

    def __call__(self, path: Path) -> Callable[[list[torch.Tensor]], Any]:
        """Opens a package, in the place of the library's function."""
        run = self.open(path)

        def timed(inputs: list[torch.Tensor]) -> Any:
            began = time.perf_counter()
            result = run(inputs)
            self.seconds += time.perf_counter() - began
            return result

        return timed


def outside(layers: int, rounds: int, times: int = 200) -> dict[str, Any]:
    """Measures the time of a step outside its programs."""
    clock = Clock()
    _packages._runner.cache_clear()
    _packages.open_package = clock
    try:
        model = funcbio.BioConverter(compile=True)(net(64, layers))
        model.bio_step()
        whole, within = [], []
        for _ in range(rounds):
            clock.seconds = 0.0
            whole.append(1e3 * milliseconds(model.bio_step, times))
            within.append(1e6 * clock.seconds / times)
    finally:
        _packages.open_package = clock.open
    rest = statistics.median(all_ - part for all_, part in zip(whole, within, strict=True))
    return {"layers": layers, "whole_us": statistics.median(whole), "outside_us": rest}


def main() -> None:
    """Measures, writes and shows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--output", default="results/benchmarks", help="folder for small.json")
    given, console = parser.parse_args(), Console()
    pin(given.threads)
    report = {
        **machine(given.threads),
        "attach": [entry for width in (32, 64) for entry in attached(width, given.rounds)],
        "outside": [outside(layers, given.rounds) for layers in (3, 38)],
    }
    write_json(prepare(given.output) / "small.json", report)
    for title in ("attach", "outside"):
        table = Table(*report[title][0], title=title)
        for entry in report[title]:
            table.add_row(*[f"{value:.2f}" if isinstance(value, float) else str(value) for value in entry.values()])
        console.print(table)


if __name__ == "__main__":
    main()
