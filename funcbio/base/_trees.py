"""Trees whose dictionaries may be of different kinds."""

from collections import OrderedDict, defaultdict
from typing import Any

import optree

from funcbio.base._types import Tree

MAPPINGS = (dict, OrderedDict, defaultdict)
"""Kinds of dictionaries that count as one: trees of the same keys fit together."""


def leaf_names(tree: Tree) -> list[str]:
    """Returns the dotted path of every leaf, in optree's order: ``{"fc1": {"weight": w}}`` gives ``["fc1.weight"]``."""
    return [".".join(map(str, path)) for path in optree.tree_paths(tree)]


def same_structure(one: optree.PyTreeSpec, other: optree.PyTreeSpec) -> bool:
    """Returns True if two trees have the same structure, but perhaps other kinds of dictionaries in it."""
    if one == other:
        return True
    sequences = one.type is other.type and one.type is not None and issubclass(one.type, list | tuple)
    if not sequences and not (one.type in MAPPINGS and other.type in MAPPINGS):
        return False
    parts, others = (dict(zip(spec.entries(), spec.children(), strict=True)) for spec in (one, other))
    return parts.keys() == others.keys() and all(same_structure(part, others[at]) for at, part in parts.items())


def leaves_as(tree: Tree, like: Tree) -> list[Any]:
    """Returns the leaves of a tree in the order of another's, which may hold other kinds of dictionaries."""
    leaves, own = optree.tree_flatten(tree)
    return leaves if own == optree.tree_structure(like) else _reordered(leaves, tree, like)


def tree_as(tree: Tree, like: Tree, leaves: list[Any]) -> Tree:
    """Returns a tree of the structure of ``tree`` with new leaves, which come in the order of those of ``like``."""
    own = optree.tree_structure(tree)
    return optree.tree_unflatten(own, leaves if own == optree.tree_structure(like) else _reordered(leaves, like, tree))


def _reordered(leaves: list[Any], tree: Tree, like: Tree) -> list[Any]:
    by_path = dict(zip(optree.tree_paths(tree), leaves, strict=True))
    return [by_path[path] for path in optree.tree_paths(like)]
