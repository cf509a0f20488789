"""Draws the figures of the documents: those of mechanisms, of the architecture, and of the page on monitoring."""

from pathlib import Path
from typing import Any

import architecture_figure
import idea_figure
import matplotlib
from mechanism_figures import FIGURES

DOCS = Path(__file__).parent


def monitoring() -> dict[str, Any]:
    """Runs every block of the page, in order, and returns the figures it has made."""
    names: dict = {}
    for part in (DOCS / "monitoring.md").read_text().split("```python\n")[1:]:
        exec(part.split("```")[0], names)
    return names["figures"]


def architecture() -> None:
    """Saves the drawings of the architecture: the same bytes from the same code, and in words what they show."""
    for name, drawing in {"idea": idea_figure, "modules": architecture_figure}.items():
        with matplotlib.rc_context({"svg.hashsalt": name}):
            told = {"Date": None, "Description": drawing.describe()}
            drawing.draw().savefig(DOCS / "assets" / "architecture" / f"{name}.svg", metadata=told)


def main() -> None:
    """Saves every figure under its name."""
    for name, figure in monitoring().items():
        figure.savefig(DOCS / "assets" / f"{name}.png", dpi=80)
    for name, draw in FIGURES.items():
        draw().savefig(DOCS / "assets" / "mechanisms" / f"{name}.png", dpi=120)
    architecture()


if __name__ == "__main__":
    main()
