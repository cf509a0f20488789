"""Draws the figures of the documents: those of the page on monitoring, by running it, and those of mechanisms."""

from pathlib import Path
from typing import Any

from mechanism_figures import FIGURES

DOCS = Path(__file__).parent


def monitoring() -> dict[str, Any]:
    """Runs every block of the page, in order, and returns the figures it has made."""
    names: dict = {}
    for part in (DOCS / "monitoring.md").read_text().split("```python\n")[1:]:
        exec(part.split("```")[0], names)
    return names["figures"]


def main() -> None:
    """Saves every figure under its name."""
    for name, figure in monitoring().items():
        figure.savefig(DOCS / "assets" / f"{name}.png", dpi=80)
    for name, draw in FIGURES.items():
        draw().savefig(DOCS / "assets" / "mechanisms" / f"{name}.png", dpi=120)


if __name__ == "__main__":
    main()
