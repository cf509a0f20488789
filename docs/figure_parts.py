"""What the figures of mechanisms share: a layer of random weights, and axes."""

from typing import Any

import torch

import funcbio
from funcbio import BioState
from funcbio.plot._canvas import figure_of

SHAPE = (200, 300)
SMALL = (50, 60)


def layer(shape: tuple[int, int] = SHAPE) -> tuple[dict[str, Any], BioState]:
    """Weights of one layer, and a state in which every rate is 1."""
    weight = 0.05 * funcbio.normal(funcbio.key(0), shape)
    return {"w": weight}, BioState(rate={"w": torch.ones(shape)})


def axes_of(columns: int, rows: int = 1, size: tuple[float, float] = (3.3, 2.9), **options: Any) -> tuple[Any, Any]:
    """A figure, and its axes in a row or a grid."""
    figure = figure_of("experiments", figsize=(size[0] * columns, size[1] * rows))
    return figure, figure.subplots(rows, columns, **options)
