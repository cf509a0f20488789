"""Checkpoints of converted models, whole and sharded, written by one kind and read by any other."""

import sys
from itertools import product
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from fsdp import shard
from group import close, processes
from nets import NETS, backward, batch, convert, layers, report
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, set_model_state_dict

from funcbio.tensors._sharding import whole

CONFIG = {"record_activity": True}
KINDS = {
    "plain": lambda model, mesh: convert(model, **CONFIG),
    "before": lambda model, mesh: shard(convert(model, **CONFIG), mesh),
    "after": lambda model, mesh: convert(shard(model, mesh), **CONFIG),
}


def make(kind, mesh, seed):
    torch.manual_seed(seed)
    return KINDS[kind](NETS["resnet"][0](), mesh)


def live(model):
    """Some steps of life, so that every buffer differs from that of a new model."""
    backward(model, batch("resnet", 0))
    for method in ("volume_dependent_lr", "crystallize", "rejuvenate_weights", "update_fuzzy_learning_rates"):
        getattr(model, method)()


def same(model, other):
    pairs = zip(model.state_dict().items(), other.state_dict().items(), strict=True)
    for (key, tensor), (name, found) in pairs:
        assert key == name
        assert torch.equal(whole(tensor), whole(found)), key


def goes_on(model, other, where):
    """What was read draws as what was written would have."""
    same(model, other)
    masks, found = model.rejuvenate_weights(), other.rejuvenate_weights()
    for key, mask in masks.items():
        close(found[key], whole(mask), f"{where} {key}")
    for bio, read in zip(layers(model), layers(other), strict=True):
        close(read.weight, whole(bio.weight), where)


def check_parts(source, target, mesh, folder):
    """Written and read in parts, each process its own."""
    model, other = make(source, mesh, 1), make(target, mesh, 2)
    live(model)
    dcp.save({"model": get_model_state_dict(model)}, checkpoint_id=folder)
    state = {"model": get_model_state_dict(other)}
    dcp.load(state, checkpoint_id=folder)
    set_model_state_dict(other, state["model"])
    goes_on(model, other, f"{source} to {target}")
    report(f"{source} to {target}")


def check_whole(source, mesh):
    """Gathered on the first process, read there into a plain model, and spread from there."""
    model, alone, other = make(source, mesh, 1), make("plain", mesh, 2), make(source, mesh, 2)
    live(model)
    full = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    if dist.get_rank() == 0:
        alone.load_state_dict(full)
    live(other)
    set_model_state_dict(other, full, options=StateDictOptions(full_state_dict=True, broadcast_from_rank0=True))
    same(model, other)
    everything = {key: whole(tensor) for key, tensor in model.state_dict().items()}
    assert dist.get_rank() or all(torch.equal(t, everything[key]) for key, t in alone.state_dict().items())


def main(folder, kinds):
    with processes() as mesh:
        for source, target in product(KINDS, KINDS) if kinds == "all" else [("before", "after"), ("after", "plain")]:
            check_parts(source, target, mesh, Path(folder) / f"{source} to {target}")
        check_whole("before", mesh)
        check_whole("after", mesh)


if __name__ == "__main__":
    main(*sys.argv[1:])
