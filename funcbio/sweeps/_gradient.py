"""The gradient of one member: by torch.func, which torch can vmap and compile, or by the autograd of a plain loop."""

from collections.abc import Callable
from typing import Any

import torch
from optree import tree_map
from torch import Tensor
from torch.func import grad_and_value
from torch.utils._python_dispatch import TorchDispatchMode

Tensors = dict[str, Tensor]


def transformed(function: Callable[..., Any], params: Tensors) -> tuple[Tensors, tuple[Tensor, Any]]:
    """Returns gradients of a loss, the loss, and what comes with it, by ``torch.func``."""
    return grad_and_value(function, has_aux=True)(params)


def plain(function: Callable[..., Any], params: Tensors) -> tuple[Tensors, tuple[Tensor, Any]]:
    """Returns what ``transformed`` does, by the backward pass of a plain loop.

    That takes what ``torch.func`` cannot: autograd functions of the usual kind, activation checkpointing, hooks. It is
    a whole backward pass, because reentrant checkpointing supports no other.
    """
    return _by_backward(Tensor.backward, function, params)


def trained(params: Tensors) -> Tensors:
    """Returns the same parameters as the leaves of a graph of their own."""
    return {name: weight.detach().requires_grad_() for name, weight in params.items()}


def draws_backward(function: Callable[..., Any], params: Tensors) -> bool:
    """Returns True if random numbers are drawn in the backward pass of a plain loop."""
    draws = _Draws()

    def backward(loss: Tensor) -> None:
        with draws:
            loss.backward()

    _by_backward(backward, function, params)
    return draws.count > 0


class _Draws(TorchDispatchMode):
    """Counts what is drawn while it is active; autograd takes modes of this kind along."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Counts an operation if it takes numbers from a generator."""
        del types
        self.count += torch.Tag.nondeterministic_seeded in func.tags
        return func(*args, **(kwargs or {}))


def _by_backward(backward: Callable[[Tensor], None], function: Callable[..., Any], params: Tensors) -> Any:
    with torch.enable_grad():
        leaves = trained(params)
        result = function(leaves, on_loss=backward)
    grads = {name: _dense(leaf) for name, leaf in leaves.items()}
    return grads, tree_map(Tensor.detach, result)


def one_number(name: str, value: Any) -> Tensor:
    """Returns a loss or metric as a tensor of no dimensions; raises ValueError if it is no single number."""
    if isinstance(value, int | float):
        return torch.tensor(value)
    if not isinstance(value, Tensor) or value.ndim > 0:
        description = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
        raise ValueError(f"{name} should return a single number, a tensor of no dimensions; found {description}")
    return value


def _dense(leaf: Tensor) -> Tensor:
    if leaf.grad is None:
        return torch.zeros_like(leaf)
    return leaf.grad if leaf.grad.layout == torch.strided else leaf.grad.to_dense()
