"""A handle's state as plain nested dictionaries, and back: all of it or nothing."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from funcbio._checks import brief, shown
from funcbio.base import listed
from funcbio.objects._buffers import places_of
from funcbio.objects._layer import BioLayer
from funcbio.tensors._sharding import is_distributed, shard_like, whole

VERSION = 1
Counts = Mapping[str, Mapping[str, Tensor]]
NAME = "funcbio"
"""Under this name the states of handles ride in the state of their optimizer."""
Saved = dict[str, Any]


def pack(steps: int, bios: Sequence[BioLayer], counts: Counts) -> Saved:
    """Gathers the state of the layers; the tensors are those in use, as in every ``state_dict`` of torch."""
    layers = {bio.synapse.weight: _tensors(bio, counts) for bio in bios}
    return {"version": VERSION, "steps": steps, "layers": layers}


def _tensors(bio: BioLayer, counts: Counts) -> dict[str, Tensor]:
    tensors = {name: value for name, value in vars(bio).get("_buffers", {}).items() if value is not None}
    tensors |= places_of([bio])[0].buffers()
    name = bio.synapse.weight
    return tensors | {kind: tree[name] for kind, tree in counts.items() if name in tree}


def find(ridden: object, place: int) -> Any:
    """Returns the state of one handle from the state of an optimizer, where they lie in the order of their hooks."""
    if not isinstance(ridden, list) or len(ridden) <= place:
        raise ValueError(
            f"state_dict should hold {NAME!r}, of every handle; found none: save with in_optimizer=True as well"
        )
    return ridden[place]


def check(saved: object, bios: Sequence[BioLayer], counts: Counts) -> None:
    """Raises ValueError if a saved state does not fit."""
    whole_state = isinstance(saved, Mapping) and {"version", "steps", "layers"} <= saved.keys()
    if not whole_state or not isinstance(saved, Mapping):
        raise ValueError(f"state_dict should be one of a handle; found {brief(saved)}")
    if saved["version"] != VERSION:
        raise ValueError(f"version of the state_dict should be {VERSION}; found {brief(saved['version'])}")
    steps, layers = saved["steps"], saved["layers"]
    if not isinstance(steps, int) or isinstance(steps, bool) or steps < 0:
        raise ValueError(f"steps of the state_dict should be an integer >= 0; found {brief(steps)}")
    expected = {bio.synapse.weight: _tensors(bio, counts) for bio in bios}
    _same_names("the layers of the state_dict", expected, layers)
    for name, tensors in expected.items():
        _same_names(f"the state of {name}", tensors, layers[name])
        for key, tensor in tensors.items():
            _check_tensor(f"{key} of {name}", tensor, layers[name][key])


def _same_names(what: str, expected: Mapping[str, Any], found: Any) -> None:
    names = sorted(found) if isinstance(found, Mapping) else found
    if names != sorted(expected):
        raise ValueError(f"{what} should be {listed(sorted(expected))}; found {brief(names)}")


def _check_tensor(what: str, expected: Tensor, found: object) -> None:
    fits = isinstance(found, Tensor) and found.shape == expected.shape
    if not fits or not isinstance(found, Tensor) or found.is_floating_point() != expected.is_floating_point():
        raise ValueError(f"{what} should be {shown(expected)}; found {shown(found)}")


@torch.no_grad()
def unpack(saved: Mapping[str, Any], bios: Sequence[BioLayer], counts: Counts) -> None:
    """Writes a checked state into the layers."""
    for bio in bios:
        for name, target in _tensors(bio, counts).items():
            value = saved["layers"][bio.synapse.weight][name]
            target.copy_(shard_like(value, target) if is_distributed(target) else whole(value))
