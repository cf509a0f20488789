"""Sizes by which the engine decides how to run: measured on CPUs. None of them changes a number that comes out."""

from dataclasses import dataclass


@dataclass
class Options:
    """Holds the sizes that tune the engine.

    Attributes:
        tile_elements: Elements of a tile on a CPU: so few that the temporaries of a rule stay in the caches, so many
            that threads share the work.
        launch_elements: Elements of a tile on other devices, where launches cost more than memory.
        tree_elements: Trees of fewer elements run leaf by leaf: copies would cost more than tiles save.
        sum_elements: Elements that statistics are taken of at a time.
        drawn_elements: Numbers drawn at once, for several tiles or several calls: enough for threads to share the work.
        drawn_sets: Sets of small layers whose next numbers are kept, a megabyte each.
        compiled_elements: With fewer elements altogether, calling a compiled program takes longer than the tiles do.
        spread_groups: Groups at a time in a compiled program where signs or activity have to be laid out.
    """

    tile_elements: int = 1 << 17
    launch_elements: int = 1 << 22
    tree_elements: int = 1 << 21
    sum_elements: int = 1 << 18
    drawn_elements: int = 1 << 18
    drawn_sets: int = 2
    compiled_elements: int = 1 << 16
    spread_groups: int = 1 << 12


OPTIONS = Options()
