"""Trees that should fit together, leaf by leaf."""

from collections.abc import Iterator
from typing import Any

import optree
import torch
from torch import Tensor

from funcbio._checks._tensors import is_real
from funcbio.base import Tree, leaf_names, leaves_as, same_structure, shown

VALUES = ("params", "grads", "update")
"""Trees that have a value for every parameter; the others have leaves of no dimensions where there is no synapse."""

NOTES = ("replaced", "age", "mask")
"""Trees that hold truth values or counts for every synapse, in any type."""

BROADCAST = ("sign", "activity", "bound", "norm", "singular")
"""Trees whose leaves broadcast with the weights."""


def require_like(params: Tree, /, **trees: Tree) -> None:
    """Raises ValueError if a tree differs from ``params`` in structure, or a leaf in shape, type or device.

    Kinds of dictionaries may differ: see ``funcbio.base.same_structure``.
    """
    expected, single = optree.tree_structure(params), isinstance(params, Tensor)
    if (expected.is_leaf() and not single) or params is None:
        hint = ": dict(model.named_parameters()) is one" if hasattr(params, "named_parameters") else ""
        hint = ": make a dict of it" if isinstance(params, Iterator) else hint
        found = "None" if params is None else f"{type(params).__name__}, a single leaf{hint}"
        raise ValueError(f"params should be a tree of tensors; found {found}")
    for name, tree in trees.items():
        if not same_structure(optree.tree_structure(tree), expected):
            raise ValueError(f"{name} should be a tree of the structure of params; found {_difference(tree, params)}")
    columns = {"params": optree.tree_leaves(params), **{name: leaves_as(tree, params) for name, tree in trees.items()}}
    for index, weight in enumerate(columns["params"]):
        leaves = {name: column[index] for name, column in columns.items()}
        others = [leaf for name, leaf in leaves.items() if name not in VALUES]
        marked = any(isinstance(leaf, Tensor) and leaf.ndim > 0 for leaf in others)
        synapse = marked if others else is_real(weight)
        for name, leaf in leaves.items():
            should = _misfit(name, leaf, weight, synapse=synapse)
            if should:
                raise ValueError(f"{name} should hold {should} at {leaf_names(params)[index]!r}; found {shown(leaf)}")


def require_result(name: str, result: Any, params: Tree, state: Any, *, grads: bool) -> None:
    """Raises ValueError if a feature has not returned trees like those that it was given.

    Args:
        name: Name of the feature.
        result: What it returned.
        params: The parameters that it was given.
        state: The state that it was given.
        grads: Whether the gradients that it returned are used.
    """
    if not isinstance(result, tuple) or len(result) != 3 or type(result[2]) is not type(state):
        raise ValueError(f"{name} should return (params, grads, state); found {shown(result)}")
    trees = {"params": result[0]} | ({"grads": result[1]} if grads else {})
    rate = getattr(state, "rate", ())
    fields = {} if isinstance(rate, tuple) and not rate else {"rate": result[2].rate}
    try:
        require_like(params, **trees, **fields)
    except ValueError as error:
        raise ValueError(f"{name} should return trees like those that it is given: {error}") from None


def _difference(tree: Tree, params: Tree) -> str:
    """Returns how a tree differs from ``params``: a leaf too few or too many, or else their structures."""
    names, expected = leaf_names(tree), leaf_names(params)
    if optree.tree_structure(tree).is_leaf():
        return f"{type(tree).__name__}, a single leaf"
    missing, further = sorted({*expected} - {*names}), sorted({*names} - {*expected})
    if missing or further:
        return f"no leaf {missing[0]!r}" if missing else f"a further leaf {further[0]!r}"
    return f"{optree.tree_structure(tree)} in the place of {optree.tree_structure(params)}"


def _misfit(name: str, leaf: Any, weight: Any, *, synapse: bool) -> str | None:
    """Returns a description of the leaf that the tree ``name`` should have here; None if the leaf fits."""
    if not isinstance(leaf, Tensor):
        return "a tensor"
    may_lack, broadcasts = name not in VALUES, name in BROADCAST
    if not isinstance(weight, Tensor) or (may_lack and leaf.ndim == 0):
        return None
    counts = name in ("sign", "activity")
    if synapse and name not in NOTES and not (is_real(leaf) or (counts and _counts(leaf))):
        return "real numbers" if counts else "real floating-point numbers"
    if name == "mask" and leaf.dtype != torch.bool:
        return "truth values"
    sizes = zip(leaf.shape, weight.shape, strict=False)
    fits = leaf.ndim == weight.ndim and all(one == other or (broadcasts and one == 1) for one, other in sizes)
    if fits and leaf.device == weight.device:
        return None
    return f"a tensor {'that broadcasts to' if broadcasts else 'of'} shape {tuple(weight.shape)} on {weight.device}"


def _counts(leaf: Tensor) -> bool:
    return not leaf.is_complex() and not leaf.is_floating_point() and leaf.dtype != torch.bool
