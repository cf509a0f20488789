"""Dropout and noise inside a model, drawn from a key: the same in a loop, under vmap and compiled."""

from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import is_batchedtensor  # pyright: ignore[reportMissingImports]
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from funcbio import rng
from funcbio.base import Key
from funcbio.sweeps._attention import attention, multi_head_attention
from funcbio.sweeps._taken import DRAWS, without_handlers


class Keyed(TorchFunctionMode):
    """Draws from a key, while active, everything that torch would draw inside a forward pass.

    The numbers belong to the key and to the place of the call in the forward pass. Covers all kinds of dropout as
    functions and as modules, dropout inside attention, ``rand_like``, ``randn_like`` and ``bernoulli``. Other draws,
    and other forms of these calls, are torch's own, which vmap refuses.

    Args:
        key: The key; give a fresh one to every forward pass.
    """

    def __init__(self, key: Key) -> None:
        super().__init__()
        self.key, self.calls = key, 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Draws in torch's place, or lets it pass."""
        del types
        kwargs = dict(kwargs or {})
        # With a generator or with None for one, vmap does not notice that some calls draw.
        if kwargs.get("generator") is None:
            kwargs.pop("generator", None)
        else:
            self.calls += 1
            if is_batchedtensor(self.key):
                raise RuntimeError(f"{func.__name__} draws from a generator of the model's own")
        if func is Tensor.unflatten:  # In Python, by a class above: torch's compiler does not follow it from here.
            func = torch.unflatten
        if func in PYTHON:
            with self:  # For the draws within.
                return PYTHON[func](*args, **kwargs)
        elif func in HANDLERS:
            result = HANDLERS[func](self, *args, **kwargs)
            if result is not NotImplemented:
                return result
        return func(*args, **kwargs)

    def uniform(self, shape: torch.Size, dtype: torch.dtype = torch.float32) -> Tensor:
        """Draws the next uniform numbers."""
        self.calls += 1
        return rng.uniform(self.key, tuple(shape), dtype=dtype, stream=f"forward/{self.calls}")

    def normal(self, shape: torch.Size, dtype: torch.dtype) -> Tensor:
        """Draws the next normal numbers."""
        self.calls += 1
        return rng.normal(self.key, tuple(shape), dtype=dtype, stream=f"forward/{self.calls}")


HANDLERS = {**DRAWS, F.scaled_dot_product_attention: attention}

PYTHON = {
    **{
        function: without_handlers(function)
        for function in (F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout)
    },
    F.multi_head_attention_forward: multi_head_attention,
}
"""Torch's functions in Python that check their arguments and then draw."""
