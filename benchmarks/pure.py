"""Pure functions leaf by leaf and in tiles, side by side: times, their ratio, and whether the numbers are the same."""

import time
from collections.abc import Callable

import torch
from optree import tree_leaves

from funcbio import BioState, chain, crystallize, fuzzy_learning_rates, key, rejuvenate_weights, volume_dependent_lr
from funcbio.engine._options import OPTIONS

FEATURES = {
    "crystallize": crystallize,
    "rejuvenate_weights": rejuvenate_weights,
    "chain": chain(crystallize, volume_dependent_lr, fuzzy_learning_rates),
}
SIZES = {
    "27 thousand": (128, 104),
    "270 thousand": (400, 336),
    "1.8 million": (1000, 900),
    "11.4 million": (3000, 1900),
}
REPEATS = 5


def best(run: Callable[[], object]) -> float:
    """Returns the fewest seconds of several runs."""
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return min(times)


def main() -> None:
    """Prints a row for every size and feature, on one thread."""
    torch.set_num_threads(1)
    print(f"{'two layers of':>14}  {'feature':18}  leaves ms  tiles ms  ratio  same bits")
    for size, shape in SIZES.items():
        params = {name: torch.randn(shape) for name in "ab"}
        grads = {name: torch.randn(shape) for name in "ab"}
        state = BioState(rate={name: 0.5 + torch.rand(shape) for name in "ab"})
        for name, feature in FEATURES.items():
            run = lambda feature=feature, args=(params, grads, state): feature(*args, key=key(0))
            OPTIONS.tree_elements = 1 << 60
            leaves, first = best(run), run()
            OPTIONS.tree_elements = 0
            tiles, second = best(run), run()
            same = all(map(torch.equal, tree_leaves(first), tree_leaves(second)))
            print(f"{size:>14}  {name:18}  {leaves * 1e3:9.2f}  {tiles * 1e3:8.2f}  {tiles / leaves:5.2f}  {same}")


if __name__ == "__main__":
    main()
