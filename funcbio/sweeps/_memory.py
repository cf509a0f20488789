"""The number of members that fit into memory at once."""

import os
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from funcbio.sweeps._member import MemberTensors, Rules

SHARE = 0.5
"""Share of the free memory that members may use; the rest is for other programs and the tables of results."""

COPIES = 8
"""Copies of the parameters: weights, gradients, updates, rates, moments, noise, and temporaries."""

MOST_MEMBERS = 64
"""Most members at once on a CPU: more of them are no faster each, and slower once they do not fit into the cache."""


def fitting(bytes_each: int, device: torch.device) -> int:
    """Counts the members, of so many bytes each, that fit into the free memory of a device."""
    room = max(1, int(SHARE * free_bytes(device) / max(bytes_each, 1)))
    return room if device.type == "cuda" else min(room, MOST_MEMBERS)


def free_bytes(device: torch.device) -> int:
    """Returns the bytes that are free on a device."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def member_bytes(rules: Rules, member: MemberTensors, batch: Any) -> int:
    """Measures the memory of one member in training: its tensors, and what its forward pass keeps for the gradient.

    Args:
        rules: How it learns.
        member: Its tensors.
        batch: A batch.

    Returns:
        A number of bytes.
    """
    saved_bytes = 0

    def note(tensor: Tensor) -> Tensor:
        nonlocal saved_bytes
        saved_bytes += tensor.numel() * tensor.element_size()
        return tensor

    params = {name: p.detach().requires_grad_() for name, p in member.params.items()}
    with saved_tensors_hooks(note, lambda tensor: tensor):
        rules.loss_of(params, member=member, key=member.keys["noise"], batch=rules.read(batch))
    trained = sum(p.numel() * p.element_size() for p in member.params.values())
    # Twice the saved tensors: the backward pass makes as much again.
    return COPIES * trained + 2 * saved_bytes + sum(leaf.numel() * leaf.element_size() for leaf in member.leaves())
