"""Copies of a model that other callbacks hold: those made before its conversion lack what it adds."""

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel


def fresh_averages(callbacks: Iterable[Any], converter: Any, model: nn.Module, base: Any) -> list[AveragedModel]:
    """Finds averages that are still plain copies of a model, and can be copied again once the model is converted.

    Args:
        callbacks: All callbacks of Lightning's trainer, in order. They are set up in this order.
        converter: The callback that converts the model.
        model: The plain model.
        base: The class of all callbacks.

    Returns:
        The averages.

    Raises:
        ValueError: If a callback holds another copy. Averages pair the tensors of model and copy by place or by name:
            rates would be mixed into other tensors, or be missing from checkpoints.
    """
    averages, earlier = [], True
    for callback in callbacks:
        earlier = earlier and callback is not converter
        for value in vars(callback).values():
            average = isinstance(value, AveragedModel)
            if not isinstance(value, nn.Module) or not is_copy(value, model):
                continue
            if average and same_numbers(value, model):
                averages.append(value)
            elif earlier or (average and type(callback).setup is base.setup):  # Else it is about to make a new one.
                names = type(converter).__name__, type(callback).__name__
                raise ValueError(
                    f"callbacks should list {names[0]} before {names[1]}, which copies the model; found "
                    "a copy made before its conversion"
                )
    return averages


def renew(averages: Iterable[AveragedModel], model: nn.Module) -> None:
    """Replaces averages by copies of the converted model."""
    for average in averages:
        device = next(average.module.parameters()).device
        average.module = copy.deepcopy(model).to(device)


def is_copy(module: nn.Module, model: nn.Module) -> bool:
    """Returns True if a module is, or holds, a copy of a model, as far as the shapes of its parameters tell."""
    parameters, others = [*module.parameters()], [*model.parameters()]
    shared = {*map(id, parameters)} & {*map(id, others)}
    return bool(parameters) and not shared and [p.shape for p in parameters] == [p.shape for p in others]


def same_numbers(module: nn.Module, model: nn.Module) -> bool:
    """Returns True if the parameters of a copy still equal those of the model."""
    pairs = zip(module.parameters(), model.parameters(), strict=True)
    return all(torch.equal(copied.detach().cpu(), original.detach().cpu()) for copied, original in pairs)
