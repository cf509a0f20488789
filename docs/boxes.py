"""Boxes with words in them, and arrows between: what the drawings of the architecture share."""

from typing import Any

from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from funcbio.plot._canvas import figure_of

WIDTH = 540
"""Of a drawing, in points: the width of a page's text. On a phone it scrolls at this size."""
INK = "#222222"


def blank(height: float) -> tuple[Any, Any]:
    """A figure with one set of axes that fills it, measured in points from the lower left."""
    figure = figure_of("experiments", figsize=(WIDTH / 72, height / 72))
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, WIDTH), ylim=(0, height))
    axes.axis("off")
    return figure, axes


def write(axes: Any, x: float, y: float, words: str, size: float = 10, **options: Any) -> Any:
    """Words around a point."""
    return axes.text(
        x, y, words, **{"ha": "center", "va": "center_baseline", "fontsize": size, "color": INK, **options}
    )


Place = tuple[float, float, float, float]


def box(axes: Any, place: Place, color: str, title: str, lines: str = "", family: str = "monospace") -> None:
    """A box at x, y, width and height: a title, and below it lines, in the letters of code if not said otherwise."""
    x, y, width, height = place
    shape = FancyBboxPatch(
        (x, y), width, height, "round,pad=0,rounding_size=5", facecolor=color + "22", edgecolor=color
    )
    axes.add_patch(shape).set_gid(f"box {x:g} {y:g}")
    middle, top = x + width / 2, y + height - 13
    words = [write(axes, middle, top if lines else y + height / 2, title, 10.5, weight="bold", linespacing=1.2)]
    if lines:
        words.append(write(axes, middle, top - 9, lines, 9.5, va="top", family=family, linespacing=1.35))
    for text in words:
        text.set_gid(f"in {x:g} {y:g}")


def arrow(axes: Any, start: tuple[float, float], end: tuple[float, float]) -> None:
    """An arrow from point to point."""
    style = {"arrowstyle": "-|>", "mutation_scale": 11, "shrinkA": 1, "shrinkB": 1}
    axes.add_patch(FancyArrowPatch(start, end, color="#666666", linewidth=1.2, **style))
