"""The figures of the pages on neighbours that hold weights: pulls, bounds, norms, signs, and what takes their place."""

from typing import Any

import torch
from figure_parts import SHAPE, SMALL, axes_of, layer

import funcbio
from funcbio import BioConfig, BioState
from funcbio.plot._canvas import PALETTE
from funcbio.plot._connections import draw_connections


def kept_state(*names: str) -> tuple[dict[str, Any], BioState]:
    """Weights of a small layer as they begin, and a state that keeps what mechanisms need."""
    params, _ = layer(SMALL)
    return params, funcbio.init(params, key=funcbio.key(0), keep=names)


def noises(count: int) -> torch.Tensor:
    """Normal numbers for as many steps of a small layer."""
    return funcbio.normal(funcbio.key(8), (count, *SMALL))


def wandered(name: str, strength: float) -> dict[str, list[float]]:
    """The root mean square of weights and of distances from the start, as random gradients and a pull move a layer."""
    start, state = kept_state("l2_init")
    weight, found = start["w"], {"weights": [], "distance": []}
    for noise in noises(100):
        grad = {"w": noise + strength * weight if name == "zero" else noise}
        if name == "start":
            grad = funcbio.l2_init({"w": weight}, grad, state, strength=strength)[1]
        weight = weight - 0.02 * grad["w"]
        found["weights"].append(weight.square().mean().sqrt().item())
        found["distance"].append((weight - start["w"]).square().mean().sqrt().item())
    return found


def l2_init() -> Any:
    """The three pulls, and how far weights go with and without one."""
    figure, (left, middle, right) = axes_of(3, size=(3.1, 2.8))
    distance = torch.linspace(-2, 2, 401).view(1, -1)
    none = {"w": torch.zeros_like(distance)}
    state = funcbio.init(none, key=funcbio.key(0), keep=["l2_init"])
    for color, penalty in zip(PALETTE, ("l2", "l1", "huber"), strict=False):
        pull = funcbio.l2_init({"w": distance}, none, state, strength=1.0, penalty=penalty)[1]["w"]
        left.plot(distance.flatten(), pull.flatten(), label=penalty, color=color)
    left.set(xlabel="distance from the start", ylabel="added to the gradient / strength")
    left.legend(frameon=False)
    for color, (name, label) in zip(
        PALETTE, {"none": "no pull", "zero": "to zero", "start": "to the start"}.items(), strict=False
    ):
        found = wandered(name, 3.0)
        middle.plot(found["distance"], color=color)
        right.plot(found["weights"], label=label, color=color)
    middle.set(xlabel="step", ylabel="distance from the start", ylim=(0, None))
    right.set(xlabel="step", ylabel="root mean square weight", ylim=(0, 0.3))
    right.legend(frameon=False, loc="upper left")
    return figure


def shrink_and_perturb() -> Any:
    """The weights of a layer that has grown, before and after, by noise."""
    start, state = kept_state("start")
    grown = {"w": start["w"] + 0.3 * noises(1)[0]}
    figure, axes = axes_of(4, size=(2.4, 2.6), sharey=True)
    for axis, (kind, perturb) in zip(axes, {"init": 1, "start": 1, "normal": 0.05, "scaled": 0.3}.items(), strict=True):
        options = {"shrink": 0.4, "perturb": perturb, "noise": kind}
        after = funcbio.shrink_and_perturb(grown, grown, state, key=funcbio.key(9), **options)[0]
        axis.scatter(grown["w"].flatten(), after["w"].flatten(), s=1, alpha=0.5, color=PALETTE[0], rasterized=True)
        axis.plot((-1, 1), (-0.4, 0.4), color=PALETTE[1], label="0.4 w")
        axis.set(xlabel="weight before", title=f"{kind}, {perturb:g}", xlim=(-1, 1), ylim=(-0.6, 0.6))
    axes[0].set_ylabel("weight after")
    axes[0].legend(frameon=False, loc="upper left")
    return figure


def clipping() -> Any:
    """Weights under random steps, with two bounds and none."""
    figure, (left, right) = axes_of(2, size=(4, 3))
    start, state = kept_state("clip_weights")
    for color, kappa in zip(PALETTE, (1e6, 2.0, 1.0), strict=False):
        weight, largest = start, []
        for noise in noises(100):
            weight = {"w": weight["w"] + 0.02 * noise}
            weight = funcbio.clip_weights(weight, weight, state, kappa=kappa)[0]
            largest.append(weight["w"].abs().max().item())
        label = f"kappa {kappa:g}" if kappa < 10 else "not clipped"
        left.plot(largest, color=color, label=label)
        right.hist(weight["w"].flatten().numpy(), 41, range=(-0.6, 0.6), histtype="step", color=color)
    left.set(xlabel="step", ylabel="largest weight", ylim=(0, None))
    left.legend(frameon=False)
    right.set(xlabel="weight", ylabel="weights", title="after 100 steps", yscale="log")
    return figure


def norms() -> Any:
    """The norm of a layer and what a step of one size does to its direction, with and without the projection."""
    figure, (left, right) = axes_of(2, size=(4, 3))
    start, state = kept_state("project_norms")
    for color, projected in zip(PALETTE, (False, True), strict=False):
        weight, lengths, turns = start["w"], [], []
        for noise in noises(200):
            moved = weight + 0.02 * noise
            turns.append(angle(weight, moved))
            weight = funcbio.project_norms({"w": moved}, start, state)[0]["w"] if projected else moved
            lengths.append((weight.norm() / state.norm["w"]).item())
        left.plot(lengths, color=color, label="projected" if projected else "free")
        right.plot(turns, color=color)
    left.set(xlabel="step", ylabel="norm / norm at the start", ylim=(0, None))
    left.legend(frameon=False)
    right.set(xlabel="step", ylabel="turn of a step, degrees", ylim=(0, None))
    return figure


def angle(one: torch.Tensor, other: torch.Tensor) -> float:
    """The angle between two layers, in degrees."""
    cosine = torch.nn.functional.cosine_similarity(one.flatten(), other.flatten(), dim=0)
    return torch.rad2deg(torch.arccos(cosine)).item()


def exponentiated() -> Any:
    """Where a weight is after one update, and after many random ones."""
    figure, (left, right) = axes_of(2, size=(4, 3))
    update, ones = torch.linspace(-2, 2, 401).view(1, -1), torch.ones(1, 401)
    for color, weight in zip(PALETTE, (1.0, 0.3, -0.5), strict=False):
        new = funcbio.exponentiated_gradient({"w": weight * ones}, {"w": update}, BioState(rate={"w": ones}))[1]["w"]
        left.plot(update.flatten(), (weight + new).flatten(), color=color, label=f"from {weight:g}")
    left.axhline(0, color="0.7", lw=0.8)
    left.set(xlabel="update", ylabel="weight after it", ylim=(-2.5, 2.5))
    left.legend(frameon=False, loc="upper left")
    _, state = layer(SMALL)
    found = {"added": torch.full(SMALL, 0.1), "as factors": torch.full(SMALL, 0.1)}
    for noise in noises(50):
        new = funcbio.exponentiated_gradient({"w": found["as factors"]}, {"w": 0.1 * noise}, state)[1]["w"]
        found = {"added": found["added"] + 0.01 * noise, "as factors": found["as factors"] + new}
    for color, (label, weight) in zip(PALETTE, found.items(), strict=False):
        right.hist(weight.flatten().numpy(), 45, range=(-0.2, 0.7), histtype="step", color=color, label=label)
    right.set(xlabel="weight", ylabel="weights", title="50 random updates, from 0.1")
    right.legend(frameon=False)
    return figure


def selected(**options: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Weights and gradients of a layer that has grown since its start, and which weights are replaced."""
    params, _ = layer()
    state = funcbio.init(params, key=funcbio.key(0), keep=["start"])
    grown = {"w": 3.0 * params["w"] + 0.05 * funcbio.normal(funcbio.key(8), SHAPE)}
    grads = {"w": funcbio.normal(funcbio.key(9), SHAPE)}
    lost = funcbio.rejuvenate_weights(grown, grads, state, key=funcbio.key(3), **options)[2].replaced["w"]
    return grown["w"], grads["w"], lost


def selective() -> Any:
    """The weights that each utility and rule replaces, a tenth of all."""
    figure, axes = axes_of(3, size=(3, 2.9), sharex=True, sharey=True)
    shown = {
        "|w|, probability": {"utility": "|w|", "rule": "probability", "strength": 4.8},
        "|g w|, threshold": {"utility": "|g w|", "rule": "threshold", "fraction": 0.055},
        "random, proportional": {"utility": "random", "rule": "proportional", "fraction": 0.1},
    }
    for axis, (title, options) in zip(axes, shown.items(), strict=True):
        weight, grad, lost = (values.flatten()[::20] for values in selected(variant="swr", **options))
        for mask, color, name in ((~lost, "0.8", "kept"), (lost, PALETTE[1], f"replaced, {lost.float().mean():.0%}")):
            axis.scatter(weight[mask], grad[mask], s=3, color=color, label=name, rasterized=True)
        axis.set(xlabel="weight", title=title, xlim=(-0.55, 0.55), ylim=(-3.2, 4.6))
        axis.legend(frameon=False, loc="upper center", ncols=2, markerscale=3, handletextpad=0.1, columnspacing=0.8)
    axes[0].set_ylabel("gradient")
    return figure


def regrown() -> tuple[torch.Tensor, torch.Tensor]:
    """The connections of a small layer before and after a call."""
    key, config = funcbio.key(0), BioConfig(density=0.3)
    params = {"w": funcbio.normal(key, (16, 24))}
    state = funcbio.init(params, key=key, config=config, keep=["prune_and_regrow"])
    grads = {"w": funcbio.normal(funcbio.key(1), (16, 24))}
    found = funcbio.prune_and_regrow(params, grads, state, key=key, grow="gradient")[2]
    return state.mask["w"], found.mask["w"]


def draw_laws(axis: Any) -> None:
    """The share of connections in every layer of a perceptron, by law."""
    shapes = {"784 to 300": (300, 784), "300 to 100": (100, 300), "100 to 10": (10, 100)}
    for place, (color, law) in enumerate(zip(PALETTE, ("uniform", "erdos_renyi"), strict=False)):
        params = {name: torch.ones(shape) for name, shape in shapes.items()}
        config = BioConfig(density=0.1, density_law=law)
        mask = funcbio.init(params, key=funcbio.key(0), config=config, keep=["prune_and_regrow"]).mask
        shares = [100 * mask[name].float().mean().item() for name in shapes]
        axis.bar([index + 0.4 * place for index in range(3)], shares, width=0.38, color=color, label=law)
    axis.set(ylabel="connections, %", title="density=0.1", ylim=(0, 130))
    axis.set_xticks([0.2, 1.2, 2.2], [*shapes], fontsize=9)
    axis.legend(frameon=False, loc="upper center", ncols=2, fontsize=9, columnspacing=1)


def sparse() -> Any:
    """The connections that one call removes and grows, and how the density of a model is spread."""
    before, after = regrown()
    figure, (left, right) = axes_of(2, size=(4.2, 3.2))
    draw_connections(left, after, before)
    left.set_title("one call of prune_and_regrow")
    draw_laws(right)
    return figure


PULLS = (l2_init, shrink_and_perturb, clipping, norms, exponentiated, selective, sparse)
