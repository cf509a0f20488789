"""Mechanisms on all parameters: on shards they equal the whole where a rule is elementwise, else they are refused."""

import pytest
import torch
from group import close, close_trees, processes, report, sharded
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Shard
from worlds import NEIGHBOURS, kept, model_world

from funcbio import BioConfig, attach, key
from funcbio.base import KEPT
from funcbio.mechanisms import ROWS
from funcbio.tensors._sharding import shard_like, whole

WHOLE = {"shrink_and_perturb init", "fire", "parseval", "dash"}
WHOLE |= {"spectral_regularization", "upgd", "upgd local", "a chain of neighbours"}
WHOLE |= {name for name in NEIGHBOURS if name.startswith(("rejuvenate", "prune"))}
CONFIG = BioConfig(
    l2_init_strength=0.1, clip_weights_kappa=0.3, hare_and_tortoise_every=2, shrink_and_perturb_noise="start"
)


def check_functions(mesh):
    for name, (feature, _) in NEIGHBOURS.items():
        args = model_world("mlp", keep=kept(name))
        params, grads, state = sharded(args, mesh, [Shard(0)])
        cut = lambda tree, like=params: {n: shard_like(v, like[n]) if v.ndim else v for n, v in tree.items()}
        fields = {field: cut(getattr(state, field)) for field in KEPT if getattr(state, field) != ()}
        state = state._replace(**fields)
        if name in WHOLE:
            with pytest.raises(ValueError, match="should be whole tensors"):
                feature(params, grads, state, key=key(3))
            continue
        expected, found = feature(*args, key=key(3)), feature(params, grads, state, key=key(3))
        close_trees(found[0], expected[0], params, f"{name} params")
        close_trees(found[1], expected[1], params, f"{name} grads")
        for field in fields:
            close_trees(getattr(found[2], field), getattr(expected[2], field), params, f"{name} {field}")
    report("functions")


def net():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.LayerNorm(8), torch.nn.ReLU(), torch.nn.Linear(8, 4))


def check_attached(mesh):
    x = torch.randn(16, 6, generator=torch.Generator().manual_seed(1))
    names = ["l2_init", "exponentiated_gradient", "shrink_and_perturb", "clip_weights", "hare_and_tortoise"]
    models = net(), fully_shard(net(), mesh=mesh)
    optimizers = [torch.optim.SGD(each.parameters(), 0.1, momentum=0.9) for each in models]
    for optimizer, each in zip(optimizers, models, strict=True):
        attach(optimizer, each, names, config=CONFIG)
    for _ in range(3):
        for optimizer, each in zip(optimizers, models, strict=True):
            optimizer.zero_grad()
            each(x).square().mean().backward()
            optimizer.step()
    for name, weight in models[0].named_parameters():
        close(whole(models[1].get_parameter(name)), weight.detach(), name)
    report("attached")
    refused = [name for name, row in ROWS.items() if row.on_trees and not all(k.elementwise for k in row.kernels())]
    for name in refused:
        model = fully_shard(net(), mesh=mesh)
        with pytest.raises(ValueError, match="in shards"):
            attach(torch.optim.SGD(model.parameters(), 0.1), model, [name])
    report(f"{len(refused)} refused")


if __name__ == "__main__":
    with processes() as mesh:
        check_functions(mesh)
        check_attached(mesh)
