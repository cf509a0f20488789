"""The figure of flatness: curvature over epochs, and against the loss."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from funcbio.experiments.frame.intervals import interval
from funcbio.plot._canvas import PALETTE, draw_mean, figure_of

COLORS = ("#000000", *(color for color in PALETTE if color != "#000000"))
LABELS = {"largest": "largest eigenvalue of the Hessian", "trace": "trace of the Hessian"}


def curvature(content: dict[str, Any]) -> Figure:
    """Draws both measures over epochs, left, and against the training loss, right."""
    figure = figure_of("experiments", figsize=(12, 8))
    panels: Any = figure.subplots(2, 2, sharey="row")
    for (over, against), (name, label) in zip(panels, LABELS.items(), strict=True):
        for run, color in zip(content["runs"], COLORS, strict=False):
            logs = np.log(np.array(run[name]).clip(1e-9))
            means = np.exp(np.array([interval(column) for column in logs.T])).T
            losses = np.exp(np.log(run["train_loss"]).mean(axis=0))
            draw_mean(over, content["moments"], means, run["variant"], color)
            against.plot(losses, means[0], color=color, marker=".", linewidth=1.8, label=run["variant"])
        over.set_ylabel(label)
        for axes in (over, against):
            _tidy(axes)
        against.set_xscale("log")
        against.invert_xaxis()
    panels[0, 0].axhline(2.0 / content["settings"]["lr"], color="0.4", linewidth=0.8, linestyle=":")
    panels[0, 0].annotate("2 / lr of the plain network", (0.98, 2.0 / content["settings"]["lr"]), **_NOTE)
    panels[0, 0].set_title("over training", fontsize=10)
    panels[0, 1].set_title("at the same training loss: learning goes to the right", fontsize=10)
    panels[1, 0].set_xlabel("epoch")
    panels[1, 1].set_xlabel("training loss")
    panels[0, 1].legend(frameon=False, fontsize=9)
    return figure


_NOTE: dict[str, Any] = {
    "xycoords": ("axes fraction", "data"),
    "ha": "right",
    "va": "bottom",
    "fontsize": 8,
    "color": "0.3",
}


def _tidy(axes: Axes) -> None:
    axes.set_yscale("log")
    axes.grid(alpha=0.2)
    axes.spines[["top", "right"]].set_visible(False)
