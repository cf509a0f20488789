"""The figure of the comparison: learning curves above, rate factors below."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from funcbio.experiments.compare.history import INTERFACES, NAMES, SLOW, History, share_slow
from funcbio.experiments.frame.intervals import interval

COLORS = {"plain": "#0072B2", "bio": "#D55E00", "start": "#56B4E9", "end": "#D55E00"}
"""Colours from the palette of Okabe and Ito, which colour-blind readers can tell apart."""

EDGES = np.linspace(0.0, 2.0, 51)
"""Bins of the rate factors; none exceeds 2 at the default configuration."""


def shares(rates: Tensor) -> list[float]:
    """Returns the share of the rate factors in every bin of ``EDGES``."""
    return (np.histogram(rates.double().numpy(), bins=EDGES)[0] / max(len(rates), 1)).tolist()


def comparison(histories: Sequence[History]) -> Figure:
    """Draws learning curves of both networks and rate factors of the bio-inspired one, for every interface."""
    figure = Figure(figsize=(10, 7.5), layout="constrained")
    panels: Any = figure.subplots(2, len(INTERFACES), sharey="row")
    for column, interface in enumerate(INTERFACES):
        chosen = {history.variant: history for history in histories if history.interface == interface}
        draw_curves(panels[0, column], list(chosen.values()))
        draw_rates(panels[1, column], chosen["bio"])
        runs = len(chosen["bio"].seeds)
        panels[0, column].set_title(f"Learning curves, {interface} loop ({runs} runs each)")
        panels[1, column].set_title(f"Rate factors, bio-inspired, {interface} loop")
    panels[0, 0].set_ylabel("test accuracy, %")
    panels[1, 0].set_ylabel("share of synapses, % (log scale)")
    return figure


def draw_curves(axes: Axes, histories: Sequence[History]) -> None:
    """Draws the mean test accuracy after every epoch, with a band for its interval."""
    for history in histories:
        means = np.array([interval(column.tolist()) for column in history.test_accuracy.double().T]) * 100.0
        epochs, color = np.arange(1, len(means) + 1), COLORS[history.variant]
        axes.plot(epochs, means[:, 0], color=color, label=f"{NAMES[history.variant]}, lr {history.lr:g}", marker=".")
        axes.fill_between(epochs, means[:, 1], means[:, 2], color=color, alpha=0.25, linewidth=0)
    axes.axhline(90.0, color="0.4", linewidth=0.8, linestyle=":")
    lowest = min(history.test_accuracy.mean(dim=0).min().item() for history in histories) * 100.0
    axes.set_ylim(max(0.0, lowest - 15.0), 101.0)
    axes.set_xlabel("epoch")
    axes.legend(loc="lower right", frameon=False, title="mean and 95 % interval")
    axes.grid(alpha=0.2)


def draw_rates(axes: Axes, history: History) -> None:
    """Draws how the rate factors of all synapses are spread before and after training."""
    for rates, moment in ((history.rate_start, "start"), (history.rate_end, "end")):
        percent, color = np.array(shares(rates)) * 100.0, COLORS[moment]
        label = f"{moment} of training: {share_slow(rates) * 100.0:.0f} % up to {SLOW}"
        axes.stairs(percent, EDGES, fill=True, color=color, alpha=0.4)
        axes.stairs(percent, EDGES, color=color, label=label, linewidth=1.5)
    axes.set_yscale("log")
    # Room above 100 % for the legend.
    axes.set_ylim(0.01, 1000.0)
    axes.set_yticks([0.01, 0.1, 1, 10, 100], ["0.01", "0.1", "1", "10", "100"])
    axes.set_xlim(0.0, max(1.4, 1.05 * max(history.rate_start.max().item(), history.rate_end.max().item())))
    axes.set_xlabel("rate factor")
    axes.legend(loc="upper right", frameon=False)
    axes.grid(alpha=0.2)
