"""The figures of the pages on mechanisms: each runs the public functions on one layer of random weights."""

from typing import Any

import torch
from change_figures import CHANGES
from figure_parts import SHAPE, axes_of, layer
from pull_figures import PULLS
from units_figure import weights_or_units

import funcbio
from funcbio import BioConfig, BioState, Distribution, plot
from funcbio.plot._by_size import draw_turnover_by_size
from funcbio.plot._canvas import PALETTE
from funcbio.plot._distributions import draw_distributions
from funcbio.plot._factors import draw_factors

STRENGTH = BioConfig().rejuvenation_parameter_dre


def rates() -> Any:
    """The ten distributions."""
    weight = layer()[0]["w"]
    laws = {
        kind.value: funcbio.sample_rates(funcbio.key(0), weight, distribution=kind.value, nu=0.3, depth=0.5)
        for kind in Distribution
    }
    return plot.distributions(laws, limits=(0.4, 2.1), panels=True, xlabel="rate factor, with a spread of 0.3")


def volume_factors() -> tuple[torch.Tensor, torch.Tensor]:
    """20,000 weights, and the factors of one step."""
    wide, ones = {"w": torch.linspace(-3, 3, 20_000).view(100, 200)}, {"w": torch.ones(100, 200)}
    return wide["w"], funcbio.volume_dependent_lr(wide, ones, BioState(rate=ones), key=funcbio.key(1))[1]["w"]


def volume() -> Any:
    """Large weights change less, and never twice the same."""
    return plot.factors(*volume_factors())


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
    after = {f"floor {floor:g}": rate for floor, rate in found.items()}
    draw_distributions(right, after, limits=(0, 1.05), xlabel="rate factor", ylabel="weights")
    right.set_title("after 100 steps")
    return figure


def replaced() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Weights before and after rejuvenation, and which are new."""
    params, state = layer()
    after, _, state = funcbio.rejuvenate_weights(params, params, state, key=funcbio.key(3), strength=STRENGTH)
    return params["w"], after["w"], state.replaced["w"]


def draw_renewed(axis: Any) -> None:
    """The weights that were replaced, before and after."""
    before, after, mask = replaced()
    values = {"lost": before[mask], "grown": after[mask]}
    draw_distributions(axis, values, limits=(-0.2, 0.2), xlabel="weight", ylabel="weights")


def rejuvenation() -> Any:
    """The chance of a weight to be replaced, and what grows in its place."""
    weight, _, mask = replaced()
    figure, (left, right) = axes_of(2, size=(4, 3))
    draw_turnover_by_size(left, weight, mask, chance=lambda size: torch.exp(-STRENGTH * size))
    draw_renewed(right)
    right.set_title(f"the {mask.float().mean():.0%} that were replaced")
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
    stages = {"at random": start, "signed": signed, "after a step": moved, "enforced": kept}
    return plot.weight_maps({stage: tree["0.weight"] for stage, tree in stages.items()}, largest=0.5)


def scaling() -> Any:
    """The factor of a unit by its activity."""
    activity, ones = torch.arange(1, 201).view(200, 1), {"w": torch.ones(200, 1)}
    state, factors = BioState(rate=ones, activity={"w": activity}), {}
    for gamma in (0.5, 1.0, 2.0):
        factors[f"gamma {gamma:g}"] = funcbio.scale_grad(ones, ones, state, gamma=gamma)[1]["w"]
    relative = activity / activity.float().mean()
    return plot.factors(relative, factors, xlabel="activity / mean activity of the layer")


def home() -> Any:
    """Three mechanisms on one layer."""
    params, _ = layer()
    found = funcbio.sample_rates(funcbio.key(0), params["w"], distribution="lognormal", nu=0.3)
    figure, (left, middle, right) = axes_of(3, size=(3.3, 2.7))
    draw_distributions(left, {"rates": found}, xlabel="rate factor", ylabel="weights")
    left.set_title("each learns at its own pace")
    draw_factors(middle, *volume_factors())
    middle.set_title("large ones change less")
    draw_renewed(right)
    right.set_title("weak ones are replaced")
    return figure


DRAWN = (rates, volume, crystallization, rejuvenation, splitting, dale, scaling, home)
FIGURES = {draw.__name__: draw for draw in (*DRAWN, *PULLS, *CHANGES, weights_or_units)}
"""What each page shows, by the name of its file."""
