"""Pulls and projections on distributed trees equal the same functions on plain ones, and so do the fields they need."""

from functools import partial

import pytest
import torch
from group import close_trees, processes, report
from optree import tree_map
from torch.distributed.tensor import Replicate, Shard, distribute_tensor

import funcbio
from funcbio import BioConfig, init, key

SHAPES = {"a.weight": (7, 5), "a.bias": (7,), "b.weight": (1, 6), "c.weight": (4, 2, 3, 3)}
KEEP = ("start", "bound", "norm")
FEATURES = {
    "l2_init": funcbio.l2_init,
    "l2_init decoupled": partial(funcbio.l2_init, penalty="huber", decoupled=True),
    **{noise: partial(funcbio.shrink_and_perturb, noise=noise) for noise in ("start", "normal", "scaled")},
    "clip_weights": funcbio.clip_weights,
    "project_norms": funcbio.project_norms,
    "exponentiated_gradient": funcbio.exponentiated_gradient,
}


def main():
    with processes() as mesh:
        torch.manual_seed(0)
        start, params, grads = ({name: torch.randn(shape) for name, shape in SHAPES.items()} for _ in range(3))
        for placement in (Shard(0), Replicate()):
            split = partial(tree_map, lambda leaf, placement=placement: distribute_tensor(leaf, mesh, [placement]))
            for bound in ("fan_in", "maximum", "spread"):
                config = BioConfig(clip_weights_bound=bound)
                state, parts = (init(tree, key=key(0), config=config, keep=KEEP) for tree in (start, split(start)))
                for field in KEEP:
                    close_trees(getattr(parts, field), getattr(state, field), split(params), f"{bound} {field}")
                for name, feature in FEATURES.items():
                    expected = feature(params, grads, state, key=key(1))
                    found = feature(split(params), split(grads), parts, key=key(1))
                    for at in range(2):
                        close_trees(found[at], expected[at], split(params), f"{placement} {bound} {name}")
            with pytest.raises(ValueError, match="should be whole tensors for shrink_to_fresh"):
                funcbio.shrink_and_perturb(split(params), split(grads), parts, key=key(1))
            report(f"{placement}: {len(FEATURES)} features")


if __name__ == "__main__":
    main()
