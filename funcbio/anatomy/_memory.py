"""The state that a model keeps from one pass to the next, put back before each pass of a probe."""

import copy
from typing import Any

from torch import Tensor, nn


class Memory:
    """Remembers the attributes and buffers of a model, as those of a layer that goes on from its last state.

    Args:
        model: The model, before its first pass.
    """

    def __init__(self, model: nn.Module) -> None:
        self.modules = [(module, _attributes(module), dict(module._buffers)) for module in model.modules()]
        self.buffers = [(one, one.clone()) for one in model.buffers() if one.numel()]

    def restore(self) -> None:
        """Puts all of it back."""
        for module, attributes, buffers in self.modules:
            for name in vars(module).keys() - attributes.keys():
                del vars(module)[name]
            vars(module).update({name: _shallow(name, value) for name, value in attributes.items()})
            module._buffers.update(buffers)
        for tensor, before in self.buffers:
            tensor.data.copy_(before)


def _attributes(module: nn.Module) -> dict[str, Any]:
    return {name: _shallow(name, value) for name, value in vars(module).items()}


def _shallow(name: str, value: Any) -> Any:
    """Returns a copy of a tensor, a list or a dictionary of the model's own; torch keeps its own ones."""
    own = name not in TORCH and isinstance(value, Tensor | list | dict | set)
    return (value.clone() if isinstance(value, Tensor) else copy.copy(value)) if own else value


TORCH = frozenset(vars(nn.Module()))
"""Attributes of every module."""
