"""Sizes by which the library decides how to run: measured on CPUs. None changes a number by more than rounding."""

from dataclasses import dataclass


@dataclass
class Options:
    """Holds the sizes that tune the engine, and those of what stands on it.

    Attributes:
        tile_elements: Elements of a tile on a CPU: so few that the temporaries of a rule stay in the caches, so many
            that threads share the work.
        part_elements: Elements of a part where one operation does: it is read twice, and should stay in the last cache.
        launch_elements: Elements of a tile on other devices, where launches cost more than memory.
        tree_elements: Trees of fewer elements run leaf by leaf: copies would cost more than tiles save.
        sum_elements: Elements that statistics are taken of at a time.
        joined_layers: From so many layers on, one operation that does for a layer runs on many together.
        joined_elements: It does not if they have more elements on average.
        drawn_elements: Numbers drawn at once, for several tiles or several calls: enough for threads to share the work.
        drawn_sets: Numbers of later calls are kept for so many groups of small layers, a megabyte for each.
        packed_elements: Layers of fewer elements are copied for a compiled program, to run in one call with others.
        spread_groups: Groups at a time in a compiled program where signs or activity have to be laid out.
        compiler: Whether compiled programs are used at all: without, the tiles do the same.
        packages: Whether compiled programs are kept for later processes.
        update_elements: Weights whose updates an attached optimizer holds at a time, or those of the largest layer.
        summed_uses: A layer that splits sums rows of its weight, not its output, from so many products with each weight
            on a CPU. The sums take as long as some products with every weight.
        summed_products: It does from so many products with all of its weights: the sums are a few calls more. Both are
            where the two ways were as fast.
        launched_uses: The same as ``summed_uses`` on other devices, which multiply faster than they read.
        launched_products: The same as ``summed_products`` on other devices, which multiply faster than they are called.
    """

    tile_elements: int = 1 << 17
    part_elements: int = 1 << 20
    launch_elements: int = 1 << 22
    tree_elements: int = 1 << 21
    sum_elements: int = 1 << 18
    joined_layers: int = 16
    joined_elements: int = 1 << 14
    drawn_elements: int = 1 << 18
    drawn_sets: int = 2
    packed_elements: int = 1 << 14
    spread_groups: int = 1 << 12
    compiler: bool = True
    packages: bool = True
    update_elements: int = 1 << 22
    summed_uses: int = 32
    summed_products: int = 1 << 20
    launched_uses: int = 256
    launched_products: int = 1 << 28


OPTIONS = Options()
