"""Dropout and noise inside a model, drawn from a key: the same in a loop, under vmap and compiled."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from types import FunctionType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from funcbio import rng
from funcbio.base import Key

SELU_NEGATIVE = -1.7580993408473766
"""What a dropped unit of alpha dropout is set to: the limit of SELU, minus its scale times its alpha."""


@contextmanager
def seeded(key: Key) -> Iterator[None]:
    """Lets torch's own generators follow from a key, and brings them back."""
    high, low = key.tolist()
    with torch.random.fork_rng(devices=[key.device] if key.is_cuda else []):
        torch.manual_seed((high & 0x7FFFFFFF) << 32 | (low & 0xFFFFFFFF))
        yield


class Keyed(TorchFunctionMode):
    """While active, everything that torch would draw inside a forward pass is drawn from a key.

    The numbers belong to the key and to the place of the call in the forward pass. Covers all kinds of dropout as
    functions and as modules, dropout inside attention, ``rand_like``, ``randn_like`` and ``bernoulli``.

    Args:
        key: The key; give a fresh one to every forward pass.
    """

    def __init__(self, key: Key) -> None:
        super().__init__()
        self.key, self.calls = key, 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Draws in torch's place, or lets it pass."""
        del types
        handler = HANDLERS.get(func)
        if handler is None:
            return func(*args, **(kwargs or {}))
        return handler(self, *args, **(kwargs or {}))

    def uniform(self, shape: torch.Size, dtype: torch.dtype = torch.float32) -> Tensor:
        """Draws the next uniform numbers."""
        self.calls += 1
        return rng.uniform(self.key, tuple(shape), dtype=dtype, stream=f"forward/{self.calls}")

    def keeps(self, shape: torch.Size, p: float) -> Tensor:
        """Tosses for every element whether it is kept."""
        return self.uniform(shape) >= p


def _dropout(mode: Keyed, input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    del inplace
    return _dropped(input, mode.keeps(input.shape, p), p) if training and p > 0.0 else input


def _dropped(values: Tensor, keep: Tensor, p: float) -> Tensor:
    return torch.where(keep, values / (1.0 - p), 0.0) if p < 1.0 else torch.zeros_like(values)


def _feature_dropout(unbatched: int) -> Any:
    """Dropout of whole channels; an input of ``unbatched`` dimensions has no batch."""

    def dropout(mode: Keyed, input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        del inplace
        if not training or p == 0.0:
            return input
        channel = 0 if input.ndim == unbatched else 1
        ones = torch.Size([1] * (input.ndim - channel - 1))
        return _dropped(input, mode.keeps(input.shape[: channel + 1] + ones, p), p)

    return dropout


def _alpha_dropout(mode: Keyed, input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False) -> Tensor:
    del inplace
    if not training or p == 0.0:
        return input
    if p == 1.0:
        return torch.zeros_like(input)
    scale = ((1.0 - p) * (1.0 + p * SELU_NEGATIVE**2)) ** -0.5
    kept = torch.where(mode.keeps(input.shape, p), input, SELU_NEGATIVE)
    return scale * (kept - p * SELU_NEGATIVE)


class _Chance:
    """A dropout probability that carries the mode into torch's own attention, which only compares it with 0."""

    def __init__(self, mode: Keyed, p: float) -> None:
        self.mode, self.p = mode, p

    def __gt__(self, other: Any) -> bool:
        return self.p > other


def _attention_dropout(values: Tensor, p: Any) -> Tensor:
    return _dropout(p.mode, values, p.p)


def _scaled_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, p: Any, is_causal: bool = False
) -> Tensor:
    if isinstance(p, _Chance) and p.p > 0.0:
        return _dropout_attention(p.mode, query, key, value, mask, p.p, is_causal)
    return F.scaled_dot_product_attention(query, key, value, mask, 0.0, is_causal)


def _dropout_attention(
    mode: Keyed,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Attention as its documentation spells it out, because the fused one draws its own numbers."""
    if dropout_p == 0.0 or enable_gqa:
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
        )
    scores = query @ key.transpose(-2, -1) * (1.0 / math.sqrt(query.shape[-1]) if scale is None else scale)
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = torch.where(attn_mask, scores, -math.inf)
    elif attn_mask is not None:
        scores = scores + attn_mask
    return _dropout(mode, scores.softmax(-1), dropout_p) @ value


ATTENTION = F.multi_head_attention_forward
_within = {
    "has_torch_function": lambda _: False,
    "dropout": _attention_dropout,
    "scaled_dot_product_attention": _scaled_attention,
}
# Torch's own code, looking its dropout up here: it has no other place where a mask could be handed in.
_attention = FunctionType(ATTENTION.__code__, {**vars(F), **_within}, argdefs=ATTENTION.__defaults__)
DROPOUT_ARGUMENT = ATTENTION.__code__.co_varnames.index("dropout_p")


def _multi_head(mode: Keyed, *args: Any, **kwargs: Any) -> Any:
    if "dropout_p" in kwargs:
        return _attention(*args, **{**kwargs, "dropout_p": _Chance(mode, kwargs["dropout_p"])})
    chance = _Chance(mode, args[DROPOUT_ARGUMENT])
    return _attention(*args[:DROPOUT_ARGUMENT], chance, *args[DROPOUT_ARGUMENT + 1 :], **kwargs)


def _rand_like(mode: Keyed, input: Tensor, **kwargs: Any) -> Tensor:
    return mode.uniform(input.shape, kwargs.get("dtype") or input.dtype)


def _randn_like(mode: Keyed, input: Tensor, **kwargs: Any) -> Tensor:
    mode.calls += 1
    dtype = kwargs.get("dtype") or input.dtype
    return rng.normal(mode.key, tuple(input.shape), dtype=dtype, stream=f"forward/{mode.calls}")


def _bernoulli(mode: Keyed, input: Tensor, **_: Any) -> Tensor:
    return (mode.uniform(input.shape) < input).to(input.dtype)


HANDLERS: dict[Any, Any] = {
    F.dropout: _dropout,
    F.dropout1d: _feature_dropout(2),
    F.dropout2d: _feature_dropout(-1),
    F.dropout3d: _feature_dropout(4),
    F.alpha_dropout: _alpha_dropout,
    F.scaled_dot_product_attention: _dropout_attention,
    ATTENTION: _multi_head,
    torch.rand_like: _rand_like,
    torch.randn_like: _randn_like,
    torch.bernoulli: _bernoulli,
}
