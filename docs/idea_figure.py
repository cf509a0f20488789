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
COLUMNS = (4.0, 124.0, 244.0)


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
        box(axes, (x, HEIGHT - 76, 112, 56), RED, name, words)
        arrow(axes, (x + 56, HEIGHT - 76), (WIDTH / 2 + (x - COLUMNS[1]) / 3, 223))
    for x, (name, words) in zip(COLUMNS, RUNS.items(), strict=True):
        box(axes, (x, 18, 112, 56), ORANGE, name, words, "sans-serif")
        arrow(axes, (WIDTH / 2 + (x - COLUMNS[1]) / 3, 123), (x + 56, 74))
    draw_feature(axes)
    return figure


def draw_feature(axes: Any) -> None:
    """What goes in, the function, and what comes out."""
    box(
        axes,
        (112, 123, 136, 100),
        GREEN,
        "feature",
        "such as crystallize:\na pure function\nof trees whose formula\nstands once",
        "sans-serif",
    )
    for x, names in ((4.0, TAKEN), (296.0, GIVEN)):
        for name, y in zip(names, (199.0, 173.0, 147.0, 121.0), strict=False):
            box(axes, (x, y, 60, 21), BLUE if name != "key" else SKY, name)
            start, end = ((x + 60, y + 10), (112, y + 10)) if x < 100 else ((248, y + 10), (x, y + 10))
            arrow(axes, start, end)
