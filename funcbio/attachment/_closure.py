"""Closures: evaluated once before the step, so that mechanisms act on the gradients they compute."""

from collections.abc import Callable
from typing import Any

import torch


def known_loss(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """Evaluates the closure given to ``step``, and puts one that returns the loss found in its place.

    Args:
        args: Positional arguments of the step, the optimizer first.
        kwargs: Keyword arguments of the step.

    Returns:
        The arguments to call the step with; None if they stay as they are.
    """
    closure: Callable[[], Any] | None = args[1] if len(args) > 1 else kwargs.get("closure")
    if not callable(closure):
        return None
    with torch.enable_grad():
        loss = closure()
    if len(args) > 1:
        return (args[0], lambda: loss, *args[2:]), kwargs
    return args, {**kwargs, "closure": lambda: loss}
