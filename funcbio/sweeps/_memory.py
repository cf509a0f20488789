"""How many members fit into memory at once."""

import os
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from funcbio.sweeps._member import Own, Rules

SHARE = 0.5
"""Of the free memory: other programs want some, and so do the tables of results."""

COPIES = 8
"""Of the parameters: weights, gradients, updates, rates, moments, noise, and some on the way."""

MOST = 64
"""Members at once on a CPU: from here on more of them cost as much each, and soon more, when they leave the cache."""


def fitting(bytes_each: int, device: torch.device) -> int:
    """Number of members, of so many bytes each, that fit into the free memory of a device."""
    room = max(1, int(SHARE * free_bytes(device) / max(bytes_each, 1)))
    return room if device.type == "cuda" else min(room, MOST)


def free_bytes(device: torch.device) -> int:
    """Memory that is free on a device."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def member_bytes(rules: Rules, own: Own, batch: Any) -> int:
    """Memory that one member takes while it trains: its tensors, and what its forward pass keeps for the gradient.

    Args:
        rules: How it learns.
        own: What belongs to it.
        batch: A batch.

    Returns:
        A number of bytes.
    """
    kept = 0

    def note(tensor: Tensor) -> Tensor:
        nonlocal kept
        kept += tensor.numel() * tensor.element_size()
        return tensor

    params = {name: p.detach().requires_grad_() for name, p in own.params.items()}
    with saved_tensors_hooks(note, lambda tensor: tensor):
        rules.loss_of(params, own=own, key=own.keys["noise"], batch=rules.read(batch))
    trained = sum(p.numel() * p.element_size() for p in own.params.values())
    # Twice what is kept: the backward pass makes as much again.
    return COPIES * trained + 2 * kept + sum(leaf.numel() * leaf.element_size() for leaf in own.leaves())
