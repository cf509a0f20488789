"""Checkpoints: everything a run needs to go on as if it had never stopped, in one file that is always whole."""

import copy
import os
from functools import partial
from typing import Any

import torch
from optree import tree_flatten, tree_unflatten
from torch import Tensor

from funcbio.aside import write_aside
from funcbio.base import Tree, leaf_names

TREE = "tree of tensors"


def save_checkpoint(path: str | os.PathLike[str], **parts: Any) -> None:
    """Writes the parts of a run into one file: aside first, then in the place of the old one.

    A crash on the way leaves the previous file as it was. A converted model's state holds its rate factors, signs,
    counters and keys, so model, optimizer and step number make an exact resume; add ``rng=torch.get_rng_state()`` if
    the model draws numbers of its own, as dropout does.

    Args:
        path: The file.
        **parts: What to save, by name: objects with a ``state_dict`` (models, optimizers, schedulers, scalers),
            trees of tensors (params, a ``BioState``, keys), numbers and strings.

    Example:
        >>> import os, tempfile
        >>> net, path = torch.nn.Linear(2, 1), os.path.join(tempfile.mkdtemp(), "run.pt")
        >>> save_checkpoint(path, model=net, state=BioState(rate={"w": torch.ones(2)}), step=7)
        >>> load_checkpoint(path, model=net, state=BioState(rate={"w": torch.zeros(2)}))["step"]
        7
    """
    content = {name: _packed(part) for name, part in parts.items()}
    write_aside(path, partial(torch.save, content))


def load_checkpoint(path: str | os.PathLike[str], **parts: Any) -> dict[str, Any]:
    """Reads a checkpoint: objects take their state, and the rest is returned.

    The file is read with ``weights_only=True`` and can run no code. If a part does not fit, every object is as before.

    Args:
        path: The file.
        **parts: Objects with ``load_state_dict``, changed in place; and trees of tensors as models of structure, type
            and device, not changed.

    Returns:
        Every part of the file by name: the objects given, trees in the structure given, all else as saved (a tree
        that was not given is a dictionary by leaf path).

    Raises:
        KeyError: If the file has no part of a name given.
        ValueError: If a tree in the file has other leaves than the one given.
        RuntimeError: If an object refuses its state.

    Example:
        >>> import os, tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), "run.pt")
        >>> save_checkpoint(path, params={"w": torch.ones(2)}, key=key(3))
        >>> load_checkpoint(path)["key"]
        tensor([0, 3], dtype=torch.int32)
    """
    content = torch.load(path, map_location="cpu", weights_only=True)
    for name in parts:
        if name not in content:
            raise KeyError(f"{path} should hold a part {name!r}; found {', '.join(content)}")
    stateful = {name: part for name, part in parts.items() if hasattr(part, "load_state_dict")}
    trees = {name: _unpacked(name, content[name], parts.get(name)) for name in content if name not in stateful}
    before = {name: copy.deepcopy(part.state_dict()) for name, part in stateful.items()}
    try:
        for name, part in stateful.items():
            part.load_state_dict(content[name])
    except BaseException:
        for name, state in before.items():
            stateful[name].load_state_dict(state)
        raise
    return {name: stateful.get(name, trees.get(name)) for name in content}


def _packed(part: Any) -> Any:
    if hasattr(part, "state_dict"):
        return part.state_dict()
    leaves = tree_flatten(part)[0]
    if leaves and all(isinstance(leaf, Tensor) for leaf in leaves):
        return {TREE: dict(zip(leaf_names(part), (leaf.detach() for leaf in leaves), strict=True))}
    return part


def _unpacked(name: str, saved: Any, like: Tree) -> Any:
    if not (isinstance(saved, dict) and TREE in saved):
        return saved
    named = saved[TREE]
    if like is None:
        return named[""] if list(named) == [""] else named
    leaves, treedef = tree_flatten(like)
    names = leaf_names(like)
    for leaf in (*names, *named):
        if leaf not in named or leaf not in names or named[leaf].shape != leaves[names.index(leaf)].shape:
            raise ValueError(f"{name} should have the leaves and shapes of the file's; found a difference at {leaf!r}")
    return tree_unflatten(treedef, [named[n].to(leaf) for n, leaf in zip(names, leaves, strict=True)])
