"""Closures: evaluated before the step, or watched where an optimizer evaluates them in ways of its own."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from funcbio._checks import is_torchs

Arguments = tuple[tuple[Any, ...], dict[str, Any]]
HOOKED = Optimizer.profile_hook_step(lambda: None).__code__
"""Code of what torch puts around every step, to call its hooks."""


def closure_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Callable[[], Any] | None:
    """Returns the closure that a step was called with; the optimizer is its first argument."""
    closure = args[1] if len(args) > 1 else kwargs.get("closure")
    return closure if callable(closure) else None


def with_closure(closure: Callable[[], Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
    """Returns the arguments of a step with another closure."""
    if len(args) > 1:
        return (args[0], closure, *args[2:]), kwargs
    return args, {**kwargs, "closure": closure}


def evaluated(closure: Callable[[], Any]) -> Callable[[], Any]:
    """Evaluates a closure, and returns one that gives its loss."""
    with torch.enable_grad():
        loss = closure()
    return lambda: loss


def evaluates_first(optimizer: Optimizer) -> bool:
    """Returns True if the step of an optimizer is known to evaluate its closure once, before anything else."""
    return is_torchs(type(optimizer).step)


def is_within_step(optimizer: Optimizer) -> bool:
    """Returns True if hooks are called for a step within a step of the same optimizer.

    A class that extends an optimizer may call that one's step, which calls the hooks once more.
    """
    if is_torchs(type(optimizer).step):
        return False
    frame, hooked = inspect.currentframe(), 0
    while frame is not None:
        if frame.f_code is HOOKED and frame.f_locals["args"][0] is optimizer:
            hooked += 1
        frame = frame.f_back
    return hooked > 1


class Watched:
    """Calls a closure in an optimizer's place, and reports if that is the first call and no weight has moved yet.

    Args:
        closure: The closure.
        weights: The weights that the optimizer holds.
        then: Called after an evaluation: with True after the first, if no weight has moved yet.
    """

    def __init__(self, closure: Callable[[], Any], weights: Sequence[Tensor], then: Callable[[bool], None]) -> None:
        self.closure, self.weights, self.then = closure, weights, then
        self.calls, self.versions = 0, {id(weight): version(weight) for weight in weights}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluates the closure and returns its loss."""
        moved = any(map(self.moved, self.weights))
        self.calls += 1
        loss = self.closure(*args, **kwargs)
        with torch.no_grad():
            self.then(self.calls == 1 and not moved)
        return loss

    def moved(self, weight: Tensor) -> bool:
        """Returns True if a weight was written to since the step began."""
        return version(weight) != self.versions[id(weight)]


def version(tensor: Tensor) -> int:
    """Returns how often a tensor was written to; 0 of one made in inference mode, where torch does not count."""
    return 0 if tensor.is_inference() else tensor._version
