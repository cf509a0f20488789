"""The figures of the pages on neighbours that change layers as a whole, and on slow averages."""

from typing import Any

import torch
from figure_parts import axes_of

import funcbio
from funcbio import BioState
from funcbio.plot._canvas import PALETTE


def pulled(steps: int) -> list[list[float]]:
    """The largest singular values of a large and a small layer, at each step of nothing but the spectral pull."""
    sizes, zeros = {"large": 0.13, "small": 0.01}, torch.zeros(60, 80)
    params: Any = {name: size * funcbio.normal(funcbio.key(0), (60, 80)) for name, size in sizes.items()}
    state = funcbio.init(params, key=funcbio.key(1), keep=["spectral_regularization"])
    tops = [[torch.linalg.svdvals(weight)[0].item() for weight in params.values()]]
    for _ in range(steps):
        empty = dict.fromkeys(params, zeros)
        pull, state = funcbio.spectral_regularization(params, empty, state, strength=5e-3)[1:]
        params = {name: weight - pull[name] for name, weight in params.items()}
        tops.append([torch.linalg.svdvals(weight)[0].item() for weight in params.values()])
    return tops


def spectral() -> Any:
    """Largest singular values under one penalty, all of them under the other."""
    tops, params = pulled(300), {"w": 0.08 * funcbio.normal(funcbio.key(0), (60, 80))}
    figure, (left, right) = axes_of(2, size=(4, 3))
    for color, line, name in zip(PALETTE, zip(*tops, strict=True), ("large layer", "small layer"), strict=False):
        left.plot(line, label=name, color=color)
    left.axhline(1, color="gray", linewidth=0.8, linestyle=":")
    left.set(xlabel="step", ylabel="largest singular value", ylim=(0, None), title="spectral_regularization")
    left.legend(frameon=False)
    zeros = {"w": torch.zeros(60, 80)}
    for color, steps in zip(PALETTE, (0, 10, 100), strict=False):
        values = {**params}
        for _ in range(steps):
            pull = funcbio.parseval(values, zeros, BioState(rate=zeros), strength=1e-2)[1]["w"]
            values = {"w": values["w"] - pull}
        right.plot(torch.linalg.svdvals(values["w"]), label=f"after {steps} steps", color=color)
    right.set(xlabel="rank", ylabel="singular value", ylim=(0, None), title="parseval")
    right.legend(frameon=False)
    return figure


def fire() -> Any:
    """Singular values of a wide and a square layer, by the number of steps."""
    figure, axes = axes_of(2, size=(4, 3), sharey=True)
    for axis, shape in zip(axes, ((60, 80), (80, 80)), strict=True):
        params = {"w": funcbio.normal(funcbio.key(0), shape)}
        for color, steps in zip(PALETTE, (0, 5, 10, 15), strict=False):
            after = funcbio.fire(params, params, BioState(rate=params), iterations=steps)[0]["w"]
            axis.plot(torch.linalg.svdvals(after), label=f"{steps} iterations", color=color)
        axis.set(xlabel="rank", title=f"{shape[0]} outputs, {shape[1]} inputs")
    axes[0].set(ylabel="singular value", ylim=(0, 1.1))
    axes[1].legend(frameon=False, loc="center left")
    return figure


def upgd() -> Any:
    """The share of the update that passes, and the noise, by utility."""
    utility, ones = {"w": torch.linspace(-2, 1, 3000)}, {"w": torch.ones(3000)}
    state = BioState(rate=(), utility=utility)
    figure, (left, right) = axes_of(2, size=(4, 3))
    for color, protect, name in zip(PALETTE, (True, False), ("protecting", "not protecting"), strict=False):
        passed = funcbio.upgd(ones, ones, state, key=funcbio.key(1), sigma=0.0, beta=1.0, protect=protect)[1]["w"]
        left.plot(utility["w"], passed, label=name, color=color)
    left.set(xlabel="utility / largest of the model", ylabel="share of the update", ylim=(0, 1.1))
    left.legend(frameon=False, loc="lower left")
    none = {"w": torch.zeros(3000)}
    noise = funcbio.upgd(ones, none, state, key=funcbio.key(1), sigma=1.0, beta=1.0)[1]["w"]
    right.scatter(utility["w"], noise, s=1, alpha=0.5, color=PALETTE[0], rasterized=True)
    right.set(xlabel="utility / largest of the model", ylabel="noise / sigma")
    return figure


def hare_and_tortoise() -> Any:
    """One weight that learns noisily, its slow average, and the returns to it."""
    steps, goal = 400, 1.0
    params, lines = {"w": torch.zeros(1)}, {"hare": [], "tortoise": []}
    state = funcbio.init(params, key=funcbio.key(0), keep=["hare_and_tortoise"])
    noise = 0.08 * funcbio.normal(funcbio.key(2), (steps,))
    for step in range(steps):
        params = {"w": params["w"] + 0.03 * (goal - params["w"]) + noise[step]}
        params, _, state = funcbio.hare_and_tortoise(params, params, state, momentum=0.98, every=100)
        lines["hare"].append(params["w"].item())
        lines["tortoise"].append(state.tortoise["w"].item())
    figure, axis = axes_of(1, size=(7, 3))
    for color, (name, line) in zip(PALETTE, lines.items(), strict=False):
        axis.plot(line, label=name, color=color, linewidth=1 if name == "hare" else 2)
    for step in range(99, steps, 100):
        axis.axvline(step, color="gray", linewidth=0.8, linestyle=":")
    axis.set(xlabel="step; a return at every dotted line", ylabel="weight")
    axis.legend(frameon=False, loc="lower right")
    return figure


def dash() -> Any:
    """Rows before and after, by the angle between them and where the gradient leads."""
    params: Any = {"w": funcbio.normal(funcbio.key(0), (400, 20))}
    grads = {"w": funcbio.normal(funcbio.key(1), (400, 20)) + torch.linspace(-3, 3, 400)[:, None] * params["w"]}
    state = funcbio.init(params, key=funcbio.key(2), keep=["dash"])
    cosine = torch.nn.functional.cosine_similarity(-grads["w"], params["w"], dim=1)
    figure, axis = axes_of(1, size=(6, 3))
    for color, floor in zip(PALETTE, (0.05, 0.3), strict=False):
        after = funcbio.dash(params, grads, state, floor=floor, every=1)[0]["w"]
        factor = after.norm(dim=1) / params["w"].norm(dim=1)
        axis.scatter(cosine, factor, s=6, label=f"floor {floor:g}", color=color)
    axis.set(xlabel="cosine of a row and the negative gradient", ylabel="length after / before", ylim=(0, None))
    axis.legend(frameon=False)
    return figure


CHANGES = (spectral, fire, upgd, hare_and_tortoise, dash)
