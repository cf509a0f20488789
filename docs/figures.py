"""Draws the figures of the documents: of mechanisms, of the architecture, of the results, of the page on monitoring."""

from pathlib import Path
from typing import Any

import architecture_figure
import forest_figure
import idea_figure
import matplotlib
from mechanism_figures import FIGURES

DOCS = Path(__file__).parent


def run(page: str) -> dict[str, Any]:
    """Runs every block of a page, in order, and returns its names."""
    names: dict = {}
    for part in (DOCS / page).read_text().split("```python\n")[1:]:
        exec(part.split("```")[0], names)
    return names


def tutorial() -> None:
    """Saves the figures of the tutorial."""
    names = run("tutorial.md")
    for name, figure in {"training": names["figure"], "activity": names["moved"]}.items():
        with matplotlib.rc_context({"svg.hashsalt": name}):
            figure.savefig(DOCS / "assets" / "tutorial" / f"{name}.svg", metadata={"Date": None})


DRAWINGS = {"architecture/idea": idea_figure, "architecture/modules": architecture_figure, "forest": forest_figure}
"""Files of the drawings, and what draws them and says in words what they show."""


def drawings() -> None:
    """Saves the drawings: the same bytes from the same code, and in words what they show."""
    for name, drawing in DRAWINGS.items():
        with matplotlib.rc_context({"svg.hashsalt": Path(name).name}):
            told = {"Date": None, "Description": drawing.describe()}
            drawing.draw().savefig(DOCS / "assets" / f"{name}.svg", metadata=told)


def main() -> None:
    """Saves every figure under its name."""
    for name, figure in run("monitoring.md")["figures"].items():
        figure.savefig(DOCS / "assets" / f"{name}.png", dpi=80)
    for name, draw in FIGURES.items():
        draw().savefig(DOCS / "assets" / "mechanisms" / f"{name}.png", dpi=120)
    drawings()
    tutorial()


if __name__ == "__main__":
    main()
