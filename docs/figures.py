"""Draws the figures of the page on monitoring, by running it."""

from pathlib import Path

DOCS = Path(__file__).parent


def main() -> None:
    """Runs every block of the page, in order, and saves the figures it has made."""
    names: dict = {}
    for part in (DOCS / "monitoring.md").read_text().split("```python\n")[1:]:
        exec(part.split("```")[0], names)
    for name, figure in names["figures"].items():
        figure.savefig(DOCS / "assets" / f"{name}.png", dpi=80)


if __name__ == "__main__":
    main()
