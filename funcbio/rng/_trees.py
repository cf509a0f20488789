"""Draws for whole trees, from one hash."""

from collections.abc import Sequence
from functools import partial

import torch
from optree import tree_flatten, tree_unflatten

from funcbio._checks import require_key
from funcbio.base import Key, Tree, leaf_names
from funcbio.rng._laws import NORMAL, Law
from funcbio.rng._samplers import normal, uniform
from funcbio.rng._streams import draw
from funcbio.tensors._arithmetic import work_type
from funcbio.tensors._sharding import draw_like, is_distributed


def normal_tree(key: Key | None, stream: str, like: Tree) -> Tree:
    """Draws standard normal numbers for every synapse of a tree.

    A leaf's stream is ``stream`` and its path, so a leaf's numbers depend on no other leaf.

    Args:
        key: The key.
        stream: Usually the name of the feature that draws.
        like: Tree whose leaves give shape and type (float32 at least); leaves of no dimensions draw nothing.

    Returns:
        Tree shaped and laid out like ``like``, its leaves of no dimensions unchanged.

    Raises:
        ValueError: If ``key`` is None.
    """
    return draw_tree(NORMAL, key, stream, like)


def draw_tree(law: Law, key: Key | None, stream: str, like: Tree, dtypes: Sequence[torch.dtype] | None = None) -> Tree:
    """Draws numbers of a law for every synapse of a tree; see ``normal_tree``.

    Args:
        law: Their distribution.
        key: The key.
        stream: Usually the name of the feature that draws.
        like: Tree whose leaves give the shapes.
        dtypes: The type of each leaf's numbers, float32 or float64; None takes that of the leaf, float32 at least.

    Returns:
        Tree shaped and laid out like ``like``, its leaves of no dimensions unchanged.

    Raises:
        ValueError: If ``key`` is None.
    """
    if key is None:
        raise ValueError(f"key should be a key made by funcbio.key, because {stream} draws random numbers; found None")
    require_key(key)
    leaves, treedef = tree_flatten(like)
    names = leaf_names(like)
    work = list(dtypes) if dtypes else [work_type([leaf]) for leaf in leaves]
    for leaf in leaves:
        if leaf.ndim and leaf.device != key.device:
            raise ValueError(f"key should be on {leaf.device}, as the weights; found it on {key.device}")
    for dtype in sorted(set(work), key=str):
        chosen = [i for i, leaf in enumerate(leaves) if leaf.ndim and work[i] == dtype and not is_distributed(leaf)]
        streams, shapes = [f"{stream}/{names[i]}" for i in chosen], [leaves[i].shape for i in chosen]
        for i, numbers in zip(chosen, draw(law, key, streams, shapes, dtype=dtype), strict=True):
            leaves[i] = numbers
    sample = normal if law is NORMAL else uniform
    for i, leaf in enumerate(leaves):
        if leaf.ndim and is_distributed(leaf):
            leaves[i] = draw_like(partial(sample, key, stream=f"{stream}/{names[i]}", dtype=work[i]), leaf)
    return tree_unflatten(treedef, leaves)
