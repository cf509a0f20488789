"""Attention whose dropout comes from a key, because the fused one draws its own numbers."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from funcbio.sweeps._taken import Source, dropped, is_chance, plain, without_handlers

multi_head_attention = without_handlers(F.multi_head_attention_forward)


def attention(
    source: Source,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """Computes attention as torch's documentation spells it out; leaves it to torch where nothing is dropped.

    Returns:
        The output; NotImplemented for what torch computes or refuses itself.
    """
    tensors = (query, key, value)
    supported = is_chance(dropout_p) and dropout_p > 0.0 and all(plain(t) and t.ndim > 1 for t in tensors)
    supported = supported and query.is_floating_point() and all(tensor.dtype == query.dtype for tensor in tensors)
    masked = attn_mask is None or (attn_mask.dtype in (torch.bool, query.dtype) and not is_causal)
    if not supported or not masked or enable_gqa:
        return NotImplemented
    scores = query @ key.transpose(-2, -1) * (1.0 / math.sqrt(query.shape[-1]) if scale is None else scale)
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = torch.where(attn_mask, scores, -math.inf)
    elif attn_mask is not None:
        scores = scores + attn_mask
    return dropped(source, _shares(scores, attn_mask), dropout_p) @ value


def _shares(scores: Tensor, mask: Tensor | None) -> Tensor:
    """Returns the softmax; zeros where a query's whole row is masked."""
    if mask is None:
        return scores.softmax(-1)
    blind = scores.isneginf().all(-1, keepdim=True)
    return torch.where(blind, 0.0, scores).softmax(-1).masked_fill(blind, 0.0)
