"""All or nothing: an operation that fails or is interrupted leaves the model as it was."""

from collections.abc import Iterable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

TABLES = (
    "_modules",
    "_parameters",
    "_buffers",
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
)
"""Dictionaries of a module that a conversion changes."""


class Before:
    """Holds how the modules of a model were: their tables, not the numbers in their tensors.

    Args:
        model: The model.
    """

    def __init__(self, model: nn.Module) -> None:
        self.generator = torch.get_rng_state()
        self.tables: list[tuple[MutableMapping[str, Any], dict[str, Any]]] = []
        self.numbers: list[tuple[Tensor, Tensor]] = []
        for module in model.modules():
            attributes = vars(module)
            tables = [attributes, *(attributes.get(name) for name in TABLES)]
            self.tables += [(table, dict(table)) for table in tables if isinstance(table, MutableMapping)]

    def keep(self, tensors: Iterable[Tensor]) -> None:
        """Copies numbers that are about to change."""
        self.numbers += [(tensor, tensor.detach().clone()) for tensor in tensors]

    @torch.no_grad()
    def restore(self) -> None:
        """Puts everything back: saved numbers, tables in their order, the state of torch's generator."""
        for tensor, old in self.numbers:
            tensor.copy_(old)
        for table, old in self.tables:
            if list(table.items()) != list(old.items()):
                table.clear()
                table.update(old)
        torch.set_rng_state(self.generator)


@contextmanager
def or_as_before(model: nn.Module) -> Iterator[Before]:
    """Restores a model if anything is raised within the context, including an interrupt."""
    before = Before(model)
    try:
        yield before
    except BaseException:
        before.restore()
        raise
