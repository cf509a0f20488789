"""Copies of a model that other callbacks hold: those made before its conversion lack what it adds."""

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel


def fresh_averages(callbacks: Iterable[Any], own: Any, model: nn.Module, base: Any) -> list[AveragedModel]:
    """Finds averages of a plain model that have only been copied from it, and can be copied again once it is converted.

    Args:
        callbacks: All callbacks of Lightning's trainer, in order. They are set up in this order.
        own: The one that converts.
        model: The plain model.
        base: The class of all callbacks.

    Returns:
        The averages.

    Raises:
        ValueError: If a callback holds another copy. Averages pair the tensors of model and copy by place or by name:
            rates would be mixed into other tensors, or be missing from checkpoints.
    """
    found, earlier = [], True
    for callback in callbacks:
        earlier = earlier and callback is not own
        for held in vars(callback).values():
            average = isinstance(held, AveragedModel)
            if not isinstance(held, nn.Module) or not is_copy(held, model):
                continue
            if average and same_numbers(held, model):
                found.append(held)
            elif earlier or (average and type(callback).setup is base.setup):  # Else it is about to make a new one.
                names = type(own).__name__, type(callback).__name__
                raise ValueError(
                    f"callbacks should list {names[0]} before {names[1]}, which copies the model; found "
                    "a copy made before its conversion"
                )
    return found


def renew(averages: Iterable[AveragedModel], model: nn.Module) -> None:
    """Makes averages copies of a model that has been converted since."""
    for average in averages:
        device = next(average.module.parameters()).device
        average.module = copy.deepcopy(model).to(device)


def is_copy(module: nn.Module, model: nn.Module) -> bool:
    """Whether a module is, or holds, a copy of a model, as far as the shapes of its parameters tell."""
    own, others = [*module.parameters()], [*model.parameters()]
    shared = {*map(id, own)} & {*map(id, others)}
    return bool(own) and not shared and [p.shape for p in own] == [p.shape for p in others]


def same_numbers(module: nn.Module, model: nn.Module) -> bool:
    """Whether the parameters of a copy are still those of the model."""
    pairs = zip(module.parameters(), model.parameters(), strict=True)
    return all(torch.equal(one.detach().cpu(), other.detach().cpu()) for one, other in pairs)
