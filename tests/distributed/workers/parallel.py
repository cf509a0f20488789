"""Tensor-parallel layers, converted before or after, equal the same model on one process."""

import os

import torch
from fsdp import call, compare, convert_with, refuses
from group import close, processes
from nets import GRADIENT, WEIGHTS, backward, convert, layers, report
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from funcbio import pool_activity
from funcbio.tensors._sharding import is_distributed

REJUVENATE = ("rejuvenate_weights", "rejuvenate_weights_old")


def net():
    return nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 3))


def split(mesh):
    """Units of the first layer, and inputs of the second, each on one process; the last layer on all."""

    def apply(model):
        model = parallelize_module(model, mesh["tp"], {"0": ColwiseParallel(), "2": RowwiseParallel()})
        return fully_shard(model, mesh=mesh["dp"]) if "dp" in mesh.mesh_dim_names else model

    return apply


def pair(mesh, order, **changes):
    torch.manual_seed(3)
    alone = convert(net(), **changes)
    torch.manual_seed(3)
    steps, model = [convert_with(changes), split(mesh)], net()
    for step in steps if order == "before" else reversed(steps):
        model = step(model)
    return alone, model


def inputs():
    return torch.randn(5, 6, generator=torch.Generator().manual_seed(0))


def check_methods(mesh, order, **changes):
    alone, model = pair(mesh, order, **changes)
    where = f"{order} {changes}"
    compare(alone, model, f"{where} start")
    assert is_distributed(layers(model)[0].weight)
    for each in (alone, model):
        backward(each, inputs())
    methods = GRADIENT
    if layers(model)[0].records_activity:
        assert layers(model)[0].activation_count.any()
        methods = (*GRADIENT, "scale_grad")
        if "dp" in mesh.mesh_dim_names:
            pool_activity(model, mesh["dp"].get_group())
    for method in (*methods, *WEIGHTS, *REJUVENATE):
        masks = call(alone, model, method, where)
    assert sum(int(mask.sum()) for mask in masks.values()) > 0
    close(model.l1_reg(), alone.l1_reg().detach(), f"{where} l1_reg")
    close(model(inputs()), alone(inputs()), f"{where} output")
    report(where)


def check_refusal(mesh):
    """Converted after, a layer's output shows only units of this process: no count of all, nor groups across."""
    _, model = pair(mesh, "after", record_activity=True)
    refuses(lambda: model(inputs()), "convert the model before parallelize_module")
    _, model = pair(mesh, "after", weight_splitting_Gamma=2)
    refuses(lambda: model(inputs()), "must evenly divide the number of features", ValueError)


def main():
    grid = os.environ["WORLD_SIZE"] == "4"
    with processes(*((2, 2) if grid else (2,)), names=("dp", "tp") if grid else ("tp",)) as mesh:
        check_methods(mesh, "before", record_activity=True)
        check_methods(mesh, "before", record_activity=True, fuzzy_lr_distribution="activity")
        check_methods(mesh, "before", weight_splitting_Gamma=2)
        check_methods(mesh, "before", weight_splitting_Gamma=3)
        check_methods(mesh, "after")
        check_methods(mesh, "after", weight_splitting_Gamma=3)
        check_refusal(mesh)


if __name__ == "__main__":
    main()
