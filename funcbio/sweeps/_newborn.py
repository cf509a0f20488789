"""Newborn weights in sweeps: what the optimizer of a stack of members remembers of weights that were replaced."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from funcbio._checks import brief, is_among, require
from funcbio.functional._newborn import DIRECTIONS, DIVISORS, WAYS, fresh_direction, mean_of_others

Tensors = dict[str, Tensor]
AGES = "newborn"
"""Entry of the optimizer's state: steps that the moments of a replaced weight will have seen in the next step, or 0."""


def check_newborn(newborn: object, optimizer: Any) -> None:
    """Raises ValueError if replaced weights cannot be treated in that way under an optimizer."""
    known = newborn is None or is_among(newborn, WAYS)
    require("newborn", newborn, "None, 'zero', 'mean' or 'exact'", known)
    if newborn is None:
        return
    name = optimizer.__name__ if isinstance(optimizer, type) else ""
    if not name:
        should = "None for a functional optimizer, whose state is its own"
        raise ValueError(f"newborn should be {should}; found {brief(newborn)}")
    if newborn == "exact" and name not in DIRECTIONS:
        should = f"one of {', '.join(DIRECTIONS)} for newborn='exact'"
        raise ValueError(f"optimizer should be {should}; found {name}: use newborn='zero'")
    if newborn == "mean" and name == "SGD":
        raise ValueError("optimizer should keep second moments for newborn='mean'; found SGD: use newborn='zero'")


def masks_of(changes: Mapping[str, Any]) -> Tensors:
    """Returns which weights mechanisms have replaced just now, from the tensors that they changed."""
    return changes.get("state", {}).get("replaced", {})


def renewed(state: Any, params: Tensors, masks: Tensors, newborn: str, initial: float) -> Any:
    """Returns an optimizer's state with the memory of replaced weights begun anew.

    Args:
        state: Lists of tensors by name, in the order of ``params``; empty before the first step.
        params: Weights, with a leading dimension of members.
        masks: Which of them are new.
        newborn: How their memory starts.
        initial: The start of the sum of Adagrad.
    """

    def start(entry: str, value: Any, name: str) -> Any:
        if name not in masks or not isinstance(value, Tensor) or value.shape != params[name].shape:
            return value
        where = masks[name]  # One number for a parameter that is no synapse's.
        where = where.view(*where.shape, *[1] * (value.ndim - where.ndim)).expand_as(value)
        if entry == AGES:
            return torch.where(where, 1, value)
        if newborn == "mean" and entry in DIVISORS:
            means = torch.vmap(mean_of_others)(value, where)
            return torch.where(where, means.view(-1, *[1] * (value.ndim - 1)), value)
        return torch.where(where, initial if entry == "sum" else 0.0, value)

    return {
        entry: [start(entry, *pair) for pair in zip(values, params, strict=True)] if values else values
        for entry, values in state.items()
    }


def corrected(kind: str, state: Any, steps: Tensors, grads: Tensors, group: Mapping[str, Any]) -> Tensors:
    """Returns an optimizer's steps with those of a fresh one in the place of young weights', whose ages it moves on."""
    new = {}
    for i, (name, step) in enumerate(steps.items()):
        age = state[AGES][i]
        moments = {entry: values[i] for entry, values in state.items() if values and entry != AGES}
        fresh = fresh_direction(kind, moments, grads[name], age.clamp(min=1), group)
        new[name] = torch.where(age > 0, fresh, step)
    state[AGES] = [age + (age > 0) for age in state[AGES]]
    return new
