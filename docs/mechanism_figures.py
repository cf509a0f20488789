"""The figures of the pages on mechanisms: each runs the public functions on one layer of random weights."""

from itertools import pairwise
from typing import Any

import torch

import funcbio
from funcbio import BioConfig, BioState, Distribution
from funcbio.plot._canvas import PALETTE, figure_of
from funcbio.plot._connections import draw_connections

SHAPE = (200, 300)
SMALL = (50, 60)
STRENGTH = BioConfig().rejuvenation_parameter_dre


def layer(shape: tuple[int, int] = SHAPE) -> tuple[dict[str, Any], BioState]:
    """Weights of one layer, and a state in which every rate is 1."""
    weight = 0.05 * funcbio.normal(funcbio.key(0), shape)
    return {"w": weight}, BioState(rate={"w": torch.ones(shape)})


def axes_of(columns: int, rows: int = 1, size: tuple[float, float] = (3.3, 2.9), **options: Any) -> tuple[Any, Any]:
    """A figure, and its axes in a row or a grid."""
    figure = figure_of("experiments", figsize=(size[0] * columns, size[1] * rows))
    return figure, figure.subplots(rows, columns, **options)


def rates() -> Any:
    """The ten distributions."""
    params, _ = layer()
    figure, axes = axes_of(5, 2, size=(1.9, 1.7), sharex=True)
    for axis, kind in zip(axes.flat, Distribution, strict=True):
        found = funcbio.sample_rates(funcbio.key(0), params["w"], distribution=kind.value, nu=0.3, depth=0.5)
        axis.hist(found.flatten().numpy(), 60, range=(0.4, 2.1), color=PALETTE[0])
        axis.set_title(kind.value, fontsize=10)
        axis.set_yticks([])
    figure.supxlabel("rate factor, with a spread of 0.3")
    return figure


def draw_volume(axis: Any) -> None:
    """The factor of 20,000 weights."""
    wide, ones = {"w": torch.linspace(-3, 3, 20_000).view(100, 200)}, {"w": torch.ones(100, 200)}
    factor = funcbio.volume_dependent_lr(wide, ones, BioState(rate=ones), key=funcbio.key(1))[1]["w"]
    axis.scatter(wide["w"].flatten(), factor.flatten(), s=1, alpha=0.3, color=PALETTE[0], rasterized=True)
    axis.set(xlabel="weight", ylabel="factor on the gradient", ylim=(0, None))


def volume() -> Any:
    """Large weights change less, and never twice the same."""
    figure, axis = axes_of(1, size=(6, 3))
    draw_volume(axis)
    return figure


def crystallized() -> tuple[dict[float, torch.Tensor], dict[float, list[float]]]:
    """Rates after a hundred steps of random gradients, and the share under 0.5 at each, by floor."""
    params, start = layer()
    rates, shares = {}, {}
    for floor in (0.0, 0.2):
        state, shares[floor] = start, []
        for step in range(100):
            grads = {"w": 1e-2 * funcbio.normal(funcbio.fold_in(funcbio.key(2), step), SHAPE)}
            state = funcbio.crystallize(params, grads, state, threshold=1e-2, floor=floor)[2]
            shares[floor].append(100 * (state.rate["w"] < 0.5).float().mean().item())
        rates[floor] = state.rate["w"]
    return rates, shares


def crystallization() -> Any:
    """How many weights are dampened, and how far."""
    found, shares = crystallized()
    figure, (left, right) = axes_of(2, size=(4, 3))
    left.plot(shares[0.0], color=PALETTE[0])
    left.set(xlabel="step", ylabel="weights with a rate under 0.5, %", ylim=(0, None))
    for color, (floor, rate) in zip(PALETTE, found.items(), strict=False):
        counts = rate.flatten().numpy()
        right.hist(counts, 60, range=(0, 1), histtype="step", label=f"floor {floor:g}", color=color)
    right.set(xlabel="rate factor", ylabel="weights", title="after 100 steps")
    right.legend(frameon=False, loc="upper right")
    return figure


def replaced() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Weights before and after rejuvenation, and which are new."""
    params, state = layer()
    after, _, state = funcbio.rejuvenate_weights(params, params, state, key=funcbio.key(3), strength=STRENGTH)
    return params["w"], after["w"], state.replaced["w"]


def draw_renewed(axis: Any) -> None:
    """The weights that were replaced, before and after."""
    before, after, mask = replaced()
    for color, (name, weight) in zip(PALETTE, {"lost": before, "grown": after}.items(), strict=False):
        axis.hist(weight[mask].numpy(), 60, range=(-0.2, 0.2), alpha=0.7, label=name, color=color)
    axis.set(xlabel="weight", ylabel="weights")
    axis.legend(frameon=False)


def rejuvenation() -> Any:
    """The chance of a weight to be replaced, and what grows in its place."""
    weight, _, mask = replaced()
    relative, edges = weight.abs() / weight.std(), torch.linspace(0, 1, 21)
    middle = (edges[1:] + edges[:-1]) / 2
    inside = [(relative >= low) & (relative < high) for low, high in pairwise(edges)]
    figure, (left, right) = axes_of(2, size=(4, 3))
    left.plot(middle, torch.exp(-STRENGTH * middle), label="exp(-d |w| / std)", color=PALETTE[0])
    left.plot(
        middle, [mask[part].float().mean().item() for part in inside], "o", label="share replaced", color=PALETTE[1]
    )
    left.set(xlabel="|w| / std", ylabel="probability")
    left.legend(frameon=False)
    draw_renewed(right)
    right.set_title(f"the {mask.float().mean():.0%} that were replaced")
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


def splitting() -> Any:
    """Outputs of twelve units, and of their groups."""
    output, units = funcbio.normal(funcbio.key(5), (12,)), range(12)
    figure, axes = axes_of(3, size=(2.9, 2.6), sharey=True)
    for axis, gamma in zip(axes, (1, 2, 4), strict=True):
        found = funcbio.split_output(output, gamma, activation=torch.tanh if gamma > 1 else None)
        axis.bar(units, found.numpy(), color=[PALETTE[unit // gamma % 2] for unit in units])
        axis.set(
            xlabel="unit",
            xticks=units[::2],
            title=f"{gamma} synapses each, tanh" if gamma > 1 else "as the layer puts out",
        )
    axes[0].set_ylabel("output")
    return figure


def dale() -> Any:
    """The weights of a layer before, and in a step of training."""
    net = torch.nn.Sequential(torch.nn.Linear(30, 20), torch.nn.ReLU(), torch.nn.Linear(20, 5))
    bio = funcbio.bind(net, BioConfig(apply_dales_principle=True))
    start = {name: 0.2 * funcbio.normal(funcbio.key(6), p.shape, stream=name) for name, p in net.named_parameters()}
    signed, _, state = bio.apply_dales_principle(start, start, bio.init(start, key=funcbio.key(4)))
    noise = {name: 0.15 * funcbio.normal(funcbio.key(7), p.shape, stream=name) for name, p in start.items()}
    moved = {name: weight + noise[name] for name, weight in signed.items()}
    kept = bio.enforce_dales_principle(moved, moved, state)[0]
    figure, axes = axes_of(4, size=(2.4, 2.4), sharey=True)
    for axis, (name, tree) in zip(
        axes, {"at random": start, "signed": signed, "after a step": moved, "enforced": kept}.items(), strict=True
    ):
        axis.imshow(tree["0.weight"].numpy(), cmap="RdBu_r", vmin=-0.5, vmax=0.5, aspect="auto")
        axis.set(title=name, xlabel="pre-synaptic unit")
    axes[0].set_ylabel("post-synaptic unit")
    return figure


def scaling() -> Any:
    """The factor of a unit by its activity."""
    activity, ones = torch.arange(1, 201).view(200, 1), {"w": torch.ones(200, 1)}
    figure, axis = axes_of(1, size=(6, 3))
    for color, gamma in zip(PALETTE, (0.5, 1.0, 2.0), strict=False):
        state = BioState(rate=ones, activity={"w": activity})
        factor = funcbio.scale_grad(ones, ones, state, gamma=gamma)[1]["w"]
        axis.plot(activity.flatten() / activity.float().mean(), factor.flatten(), label=f"gamma {gamma:g}", color=color)
    axis.set(xlabel="activity / mean activity of the layer", ylabel="factor on the gradient", ylim=(0, None))
    axis.legend(frameon=False)
    return figure


def home() -> Any:
    """Three mechanisms on one layer."""
    params, _ = layer()
    found = funcbio.sample_rates(funcbio.key(0), params["w"], distribution="lognormal", nu=0.3)
    figure, (left, middle, right) = axes_of(3, size=(3.3, 2.7))
    left.hist(found.flatten().numpy(), 60, color=PALETTE[0])
    left.set(xlabel="rate factor", ylabel="weights", title="each learns at its own pace")
    draw_volume(middle)
    middle.set_title("large ones change less")
    draw_renewed(right)
    right.set_title("weak ones are replaced")
    return figure


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


DRAWN = (rates, volume, crystallization, rejuvenation, splitting, dale, scaling, home)
NEIGHBOURS = (l2_init, shrink_and_perturb, clipping, norms, exponentiated)
NEIGHBOURS += (spectral, fire, upgd, hare_and_tortoise, dash, selective, sparse)
FIGURES = {draw.__name__: draw for draw in (*DRAWN, *NEIGHBOURS)}
"""What each page shows, by the name of its file."""
