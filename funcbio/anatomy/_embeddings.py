"""Rules of a cut model for embeddings, in the place of torch's functions."""

from typing import Any

import torch
from torch import Tensor

from funcbio.anatomy._cut import Cut, Site
from funcbio.anatomy._rules import given, last_of
from funcbio.anatomy._synapses import Synapse


def _site(cut: Cut, weight: Any) -> Site | None:
    found = cut.names.of(weight)
    if found is None or found not in cut.names.parameters:
        return None
    synapse = Synapse(found, "Embedding", pre=0, post=1, attribute=last_of(found))
    size = weight.shape[1]
    return Site(found, synapse, 0, size, size, channels=0, source=cut.source(found, 1))


def _embedding(cut: Cut, name: str, args: Any, kwargs: Any) -> Any:
    """Cuts the look-up of an embedding. The tag changes with the index, which units may have chosen."""
    del name
    indices, weight = given(args, kwargs, 0, "input"), given(args, kwargs, 1, "weight")
    site = _site(cut, weight)
    if site is None:
        return NotImplemented
    tag = cut.use(None, site, torch.Size([*indices.shape, weight.shape[1]]), -1, weight)
    return tag * _size_of(indices).unsqueeze(-1)


def _bag(cut: Cut, name: str, args: Any, kwargs: Any) -> Any:
    """Cuts the look-up of bags, whose weights for every example may be units."""
    del name
    indices, weight = given(args, kwargs, 0, "input"), given(args, kwargs, 1, "weight")
    site = _site(cut, weight)
    if site is None:
        return NotImplemented
    each, sizes = given(args, kwargs, 8, "per_sample_weights"), _size_of(indices)
    sizes = sizes if each is None else sizes * each
    offsets = given(args, kwargs, 2, "offsets")
    if offsets is not None and given(args, kwargs, 9, "include_last_offset", False):
        offsets = offsets[:-1]
    pooled = sizes.mean(-1) if offsets is None else _pooled(sizes, offsets)
    tag = cut.use(None, site, torch.Size([*pooled.shape, weight.shape[1]]), -1, weight)
    return tag * (1.0 + pooled.unsqueeze(-1))


def _size_of(indices: Tensor) -> Tensor:
    """Returns another size for every index."""
    return 1.0 + 0.1 * indices.double().sin()


def _pooled(sizes: Tensor, offsets: Tensor) -> Tensor:
    """Returns the sum of each bag, from where the bags start."""
    at = torch.arange(len(sizes), device=sizes.device)
    bag = torch.bucketize(at, offsets.to(at.device), right=True) - 1
    return sizes.new_zeros(len(offsets)).index_add(0, bag, sizes)


EMBEDDINGS = {"embedding": _embedding, "embedding_bag": _bag}
"""The rules, by the names of torch's functions."""
