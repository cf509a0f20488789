"""The pure functions on distributed trees equal the same functions on plain ones."""

import os
import sys

import torch
from group import close, close_trees, processes, report, sharded
from optree import tree_map
from torch.distributed.tensor import Replicate, Shard
from torch.distributed.tensor.placement_types import _StridedShard
from worlds import EVERYTHING, FEATURES, MODELS, model_world, world

import funcbio
from funcbio import Distribution, init, key
from funcbio.tensors._sharding import whole

# On two processes: rows that split unevenly, and a single row, which leaves one process with none.
ODD = {"a.weight": (5, 3), "b.weight": (1, 4), "c.weight": (4, 1), "d.weight": (7, 2, 3, 3), "d.bias": (7,)}
WORLDS = {name: lambda name=name: model_world(name) for name in MODELS}
WORLDS["odd"] = lambda: world({name: torch.randn(shape) for name, shape in ODD.items()})
WORLDS["large"] = lambda: world({"a.weight": torch.randn(301, 257), "b.weight": torch.randn(9, 5)})
LAYOUTS = {"by rows": [Shard(0)], "by columns": [Shard(1)], "replicated": [Replicate()]}
# On four processes.
LAYOUTS_2D = {
    "replicated rows": [Replicate(), Shard(0)],
    "rows twice": [Shard(0), Shard(0)],
    "rows and columns": [Shard(0), Shard(1)],
    "rows of columns": [_StridedShard(0, split_factor=2), Shard(0)],
}
STATE = ("rate", "sign", "activity", "replaced")


def check_feature(name, args, parts, where):
    expected, found = FEATURES[name][0](*args, key=key(3)), FEATURES[name][0](*parts, key=key(3))
    close_trees(found[0], expected[0], parts[0], f"{where} params")
    close_trees(found[1], expected[1], parts[0], f"{where} grads")
    for field in STATE:
        close_trees(getattr(found[2], field), getattr(expected[2], field), parts[0], f"{where} {field}")
    close(found[2].updates, expected[2].updates, f"{where} updates")


def check_start(args, parts, where):
    described = funcbio.synapses(MODELS[where.split()[0]][0]()) if where.split()[0] in MODELS else None
    for distribution in Distribution:
        config = EVERYTHING.replace(fuzzy_lr_distribution=distribution)
        expected, found = (init(p, key=key(5), config=config, synapses=described) for p in (args[0], parts[0]))
        for field in STATE:
            close_trees(getattr(found, field), getattr(expected, field), parts[0], f"{where} {distribution} {field}")


def check_splitting(mesh, placements, where):
    params = {"a.weight": torch.randn(6, 4), "a.bias": torch.randn(6), "b.weight": torch.randn(1, 6)}
    described = funcbio.bind(params).synapses
    parts, *_ = sharded((params, params, funcbio.BioState((), (), (), ())), mesh, placements)
    for gamma in (2, 3):
        expected = funcbio.split_weights(params, gamma, synapses=described)
        close_trees(funcbio.split_weights(parts, gamma, synapses=described), expected, parts, where)


def check_layout(kind, layout, args, mesh, placements):
    parts = sharded(args, mesh, placements)
    before = tree_map(torch.clone, parts)
    check_splitting(mesh, placements, layout)
    check_start(args, parts, f"{kind} {layout}")
    for name in FEATURES:
        check_feature(name, args, parts, f"{kind} {layout} {name}")
        tree_map(lambda a, b: close(a, whole(b)), parts, before)


def main(kind, *layouts):
    flat = os.environ["WORLD_SIZE"] == "2"
    with processes(*(() if flat else (2, 2))) as mesh:
        torch.manual_seed(0)
        args, table = WORLDS[kind](), LAYOUTS if flat else LAYOUTS_2D
        for layout in layouts or table:
            check_layout(kind, layout, args, mesh, table[layout])
            report(f"{kind} {layout}: {len(FEATURES)} features")


if __name__ == "__main__":
    main(*sys.argv[1:])
