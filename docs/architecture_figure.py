"""The drawing of the modules: which group imports which is read from the code, and rows follow from it."""

import ast
import textwrap
from collections.abc import Collection, Iterator, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from boxes import WIDTH, arrow, blank, box, write

import funcbio
from funcbio.plot._canvas import PALETTE

Item = TypeVar("Item")
ROOT = Path(funcbio.__file__).parent
BLUE, RED, GREEN, PINK, ORANGE, SKY, BLACK = PALETTE[:7]
LEFT, GAP = 16, 16  # The margin holds the arrow that says which way imports point.


class Group(NamedTuple):
    """Modules that are drawn as one box."""

    title: str
    color: str
    modules: str


GROUPS = [
    Group("The command line", BLACK, "__main__"),
    Group("Experiments", BLACK, "experiments"),
    Group("The public names", BLACK, "__init__"),
    Group("Trainers of others", RED, "integrations"),
    Group("On an optimizer", RED, "attachment"),
    Group("The drop-in", RED, "compat"),
    Group("Converted models", RED, "bio_converter bio_module objects"),
    Group("Many runs", BLUE, "sweeps"),
    Group("Functions on trees", BLUE, "functional"),
    Group("Settings, monitoring, checkpoints", PINK, "bio_config monitor checkpoint"),
    Group("Mechanisms, one file each, and their table", GREEN, "mechanisms"),
    Group("The engine: one kernel, three ways to run it", ORANGE, "engine"),
    Group("Keys and draws; synapses; figures", SKY, "rng anatomy plot"),
    Group("Vocabulary, checks, tensors, files", SKY, "base _checks tensors files identity _optional _seeds"),
]


@cache
def modules() -> dict[str, list[Path]]:
    """The files of every module; a package is one module."""
    found: dict[str, list[Path]] = {}
    for path in sorted(ROOT.rglob("*.py")):
        found.setdefault(path.relative_to(ROOT).with_suffix("").parts[0], []).append(path)
    return found


def imported(path: Path) -> Iterator[str]:
    """The modules of ours that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "funcbio":
            yield from (alias.name if alias.name in modules() else "__init__" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("funcbio."):
            yield node.module.split(".")[1]
        elif isinstance(node, ast.Import) and any(alias.name == "funcbio" for alias in node.names):
            yield "__init__"


def members() -> dict[str, Group]:
    """Returns the group of every module."""
    return {name: group for group in GROUPS for name in group.modules.split()}


class House(NamedTuple):
    """Counts what the imports tell, with a folder as one room."""

    rooms: int
    floors: int
    arrows: int


def house() -> House:
    """Counts rooms, floors and arrows."""
    return House(len(modules()), len(peeled(list(modules()), arrows())), len(arrows()))


@cache
def arrows() -> set[tuple[str, str]]:
    """Returns which module imports which other one."""
    pairs = {(name, other) for name, paths in modules().items() for path in paths for other in imported(path)}
    return {(name, other) for name, other in pairs if name != other}


@cache
def edges() -> set[tuple[Group, Group]]:
    """Returns which group imports which other one."""
    group = members()
    return {(group[name], group[other]) for name, other in arrows() if group[name] != group[other]}


def rows() -> list[list[Group]]:
    """Returns the groups in rows, from the top."""
    return peeled(GROUPS, edges())


def peeled(items: Sequence[Item], pairs: Collection[tuple[Item, Item]]) -> list[list[Item]]:
    """Puts each item in the first row below all that import it; raises ValueError if imports go in a circle."""
    left, found = list(items), []
    while left:
        row = [item for item in left if not any(one in left for one, other in pairs if other == item)]
        if not row:
            raise ValueError(f"imports should point one way; found a circle among {left}")
        found.append(row)
        left = [item for item in left if item not in row]
    return found


def describe() -> str:
    """The drawing in words, which its file holds: so a test sees whether it is up to date."""
    return "; ".join(" | ".join(f"{group.title}: {group.modules}" for group in row) for row in rows())


def lines_of(group: Group, width: float) -> str:
    """Names of a group's modules in lines that fit; packages end with a slash."""
    names = [f"{name}/" if (ROOT / name).is_dir() else name for name in group.modules.split()]
    return textwrap.fill("  ".join(names), int((width - 10) / 5.75), break_long_words=False, break_on_hyphens=False)


def places() -> Iterator[dict[Group, tuple[float, float, float, float]]]:
    """Of every row, from the top, where its boxes lie; y is measured downwards from the top."""
    y = 4.0
    for row in rows():
        shares = [max(len(group.title) * 6.6, 60) for group in row]
        room = WIDTH - LEFT - 4 - 6 * (len(row) - 1)
        widths = [room * share / sum(shares) for share in shares]
        tall = 28 + 13 * max(lines_of(group, width).count("\n") + 1 for group, width in zip(row, widths, strict=True))
        starts = [LEFT + sum(widths[:index]) + 6 * index for index in range(len(row))]
        yield {group: (x, y, width, tall) for group, x, width in zip(row, starts, widths, strict=True)}
        y += tall + GAP


def draw() -> Any:
    """The modules in rows, and arrows from one row to the next."""
    found = list(places())
    height = max(y + tall for _, y, _, tall in found[-1].values()) + 4
    figure, axes = blank(height)
    for row in found:
        for group, (x, y, width, tall) in row.items():
            box(axes, (x, height - y - tall, width, tall), group.color, group.title, lines_of(group, width))
    for upper, lower in pairwise(found):
        for one, other in edges():
            if one in upper and other in lower:
                (x, y, width, tall), (a, top, wide, _) = upper[one], lower[other]
                middle = (max(x, a) + min(x + width, a + wide)) / 2
                arrow(axes, (middle, height - y - tall), (middle, height - top))
    arrow(axes, (7, height - 4), (7, 4))
    label = {"facecolor": "white", "edgecolor": "none", "pad": 3}
    write(axes, 7, height / 2, "imports point downwards", 9.5, rotation=-90, color="#666666", bbox=label)
    return figure
