"""The drawing of the one idea: a mechanism is a function on trees, called in three ways and run in three ways."""

from typing import Any

from boxes import WIDTH, arrow, blank, box, write

from funcbio.plot._canvas import PALETTE

BLUE, RED, GREEN, _, ORANGE, SKY = PALETTE[:6]
HEIGHT = 346
CALLS = {
    "functions": "chain(…)\nbind(model)",
    "methods": "model\n.crystallize()",
    "whole runs": "attach(…)\nsweep(…)",
}
RUNS = {
    "on trees": "for vmap\nand grad",
    "in tiles": "in place,\nin the cache",
    "compiled": "several in\none loop",
}
ABOVE = "three ways to call it"
BELOW = "three ways to run it"
TAKEN = ("params", "grads", "state", "key")
GIVEN = TAKEN[:3]
COLUMNS = (4.0, 186.0, 368.0)
BROAD, NARROW = 168.0, 96.0
"""Where boxes begin, and their widths, in points."""


def describe() -> str:
    """The drawing in words, which its file holds: so a test sees whether it is up to date."""
    inner = f"{', '.join(TAKEN)} -> feature -> {', '.join(GIVEN)}"
    return f"{ABOVE}: {in_words(CALLS)}; {inner}; {BELOW}: {in_words(RUNS)}"


def in_words(table: dict[str, str]) -> str:
    """Names with what is written below them."""
    return ", ".join(f"{name}: {' '.join(lines.split())}" for name, lines in table.items())


def draw() -> Any:
    """Calls above, the function in the middle, runners below."""
    figure, axes = blank(HEIGHT)
    write(axes, WIDTH / 2, HEIGHT - 10, ABOVE)
    write(axes, WIDTH / 2, 8, BELOW)
    for x, (name, words) in zip(COLUMNS, CALLS.items(), strict=True):
        box(axes, (x, HEIGHT - 76, BROAD, 56), RED, name, words)
        arrow(axes, (x + BROAD / 2, HEIGHT - 76), (WIDTH / 2 + (x - COLUMNS[1]) / 3, 223))
    for x, (name, words) in zip(COLUMNS, RUNS.items(), strict=True):
        box(axes, (x, 18, BROAD, 56), ORANGE, name, words, "sans-serif")
        arrow(axes, (WIDTH / 2 + (x - COLUMNS[1]) / 3, 123), (x + BROAD / 2, 74))
    draw_feature(axes)
    return figure


def draw_feature(axes: Any) -> None:
    """What goes in, the function, and what comes out."""
    box(
        axes,
        (COLUMNS[1], 123, BROAD, 100),
        GREEN,
        "feature",
        "such as crystallize:\na pure function\nof trees whose formula\nstands once",
        "sans-serif",
    )
    left, right = COLUMNS[1], COLUMNS[1] + BROAD
    for x, names in ((4.0, TAKEN), (WIDTH - 4 - NARROW, GIVEN)):
        for name, y in zip(names, (199.0, 173.0, 147.0, 121.0), strict=False):
            box(axes, (x, y, NARROW, 21), BLUE if name != "key" else SKY, name)
            start, end = ((x + NARROW, y + 10), (left, y + 10)) if x < left else ((right, y + 10), (x, y + 10))
            arrow(axes, start, end)
