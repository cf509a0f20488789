"""Checkpoints: everything that a run needs to go on exactly where it stopped, in one file that is always whole."""

import copy
import os
from collections import Counter
from dataclasses import fields
from functools import partial
from typing import Any

from optree import tree_flatten, tree_paths, tree_unflatten
from torch import Tensor, nn
from torch.optim import Optimizer

from funcbio._checks import is_torchs, require_path
from funcbio.base import Tree, listed
from funcbio.bio_config import DEFAULT_BIO_CONFIG, BioConfig
from funcbio.files._aside import write_aside
from funcbio.files._plain import plain
from funcbio.files._tensors import read_tensors, write_tensors

TREE = "tree of tensors"
CONFIG = "configuration"
"""The only key of a dictionary that stands for a tree or a configuration in a file."""

FREE_SHAPES = ("Adafactor", "LBFGS")
"""Names of torch's optimizers whose states have other shapes than their weights."""


def save_checkpoint(path: str | os.PathLike[str], **parts: Any) -> None:
    """Writes the parts of a run into one file: aside first, then in the place of the old one.

    A crash on the way leaves the previous file as it was, and so does a part that ``load_checkpoint`` could not give
    back. A converted model's state holds its rate factors, signs, counters and keys, so model, optimizer and step
    number make an exact resume; add ``rng=torch.get_rng_state()`` if the model draws numbers of its own, as dropout
    does. The file holds a checksum of all its bytes.

    Args:
        path: The file. Its permissions are kept, and a link stays a link.
        **parts: What to save, by name: objects with a ``state_dict`` (models, optimizers, schedulers, scalers),
            trees of tensors (params, a ``BioState``, keys), configurations, and plain values: numbers, strings, None,
            lists, tuples, sets and dictionaries of them. Numbers of numpy become plain ones.

    Raises:
        TypeError: If the path is none.
        ValueError: If something in a part could not be loaded again; the message names its path.
        OSError: If the file cannot be written.

    Example:
        >>> import os, tempfile
        >>> net, path = torch.nn.Linear(2, 1), os.path.join(tempfile.mkdtemp(), "run.pt")
        >>> save_checkpoint(path, model=net, state=BioState(rate={"w": torch.ones(2)}), step=7)
        >>> load_checkpoint(path, model=net, state=BioState(rate={"w": torch.zeros(2)}))["step"]
        7
        >>> save_checkpoint(path, model=net, log=open)
        Traceback (most recent call last):
        ...
        ValueError: log should be a tensor, a number, a string, None, or a list, ...
    """
    require_path("path", path)
    content = {name: _packed(name, part) for name, part in parts.items()}
    write_aside(path, partial(write_tensors, content))


def load_checkpoint(path: str | os.PathLike[str], **parts: Any) -> dict[str, Any]:
    """Reads a checkpoint: objects take their state, and the rest is returned.

    The file is read with ``weights_only=True`` and can run no code. One that is damaged in any of its bytes, or
    something else, is refused before it takes memory. If a part does not fit, every object is as before.

    Args:
        path: The file.
        **parts: Objects with ``load_state_dict``, changed in place; and trees of tensors as models of structure, type
            and device, not changed.

    Returns:
        Every part of the file by name: the objects given, trees in the structure given, all else as saved (a tree
        that was not given is a dictionary by leaf path).

    Raises:
        TypeError: If the path is none.
        KeyError: If the file has no part of a name given.
        FileError: If the file is damaged or no checkpoint; a ValueError and a RuntimeError.
        ValueError: If a tree in the file has other leaves than the one given, or an optimizer of torch other weights.
        RuntimeError: If an object refuses its state.

    Example:
        >>> import os, tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), "run.pt")
        >>> save_checkpoint(path, params={"w": torch.ones(2)}, key=key(3))
        >>> load_checkpoint(path)["key"]
        tensor([0, 3], dtype=torch.int32)
    """
    require_path("path", path)
    content = read_tensors(path)
    for name in parts:
        if name not in content:
            raise KeyError(f"{path} should hold a part {name!r}; found {listed(content)}")
    stateful = {name: part for name, part in parts.items() if hasattr(part, "load_state_dict")}
    trees = {name: _unpacked(name, content[name], parts.get(name)) for name in content if name not in stateful}
    before = {name: copy.deepcopy(part.state_dict()) for name, part in stateful.items()}
    try:
        for name, part in stateful.items():
            _load(name, part, content[name])
    except BaseException:
        for name, state in before.items():
            stateful[name].load_state_dict(state)
        raise
    return {name: stateful.get(name, trees.get(name)) for name in content}


def _load(name: str, part: Any, saved: Any) -> None:
    """Loads a state into an object; checks optimizers of torch, which accept any and would fail in their next step."""
    is_other = isinstance(saved, dict) and (TREE in saved or CONFIG in saved)
    if is_other or (isinstance(part, nn.Module | Optimizer) and not isinstance(saved, dict)):
        raise ValueError(
            f"{name} should be a part that has a state of its own; found a plain value or a tree in the file"
        )
    take: Any = part.load_state_dict
    if not (isinstance(part, Optimizer) and is_torchs(type(part))):
        take(saved)
        return
    if "param_groups" not in saved:
        raise ValueError(f"{name} should be an object like the one that was saved; found {type(part).__name__}")
    options = set(part.defaults).intersection(*part.param_groups)  # Now: loading adds to the defaults.
    take(saved)
    _check_optimizer(name, part, options)


def _check_optimizer(name: str, optimizer: Optimizer, options: set[str]) -> None:
    """Raises ValueError if an optimizer has taken the state of another one, or of other weights."""
    kind = type(optimizer).__name__
    for group in optimizer.param_groups:
        missing = sorted(options - group.keys())
        if missing:
            raise ValueError(
                f"{name} should be the optimizer that was saved; found {kind}, and no {missing[0]!r} in the file"
            )
        for weight in group["params"] if kind not in FREE_SHAPES else ():
            for state, value in optimizer.state.get(weight, {}).items():
                if isinstance(value, Tensor) and value.ndim and value.shape != weight.shape:
                    shapes = f"{tuple(value.shape)} for a weight of {tuple(weight.shape)}"
                    raise ValueError(f"{name} should have states of its weights' shapes; found {state!r} of {shapes}")


def _packed(name: str, part: Any) -> Any:
    if hasattr(part, "state_dict") and not isinstance(part, type):
        return plain(part.state_dict(), name)
    if type(part) is BioConfig:
        return {CONFIG: plain(_fields(part), name)}
    named = _leaves(part)
    tensors = any(isinstance(leaf, Tensor) for _, leaf in named) or hasattr(part, "_fields")
    tensors = tensors and (isinstance(part, Tensor) or [leaf for leaf, _ in named] != [""])  # The path of a tensor.
    if not tensors or not all(leaf is None or isinstance(leaf, Tensor) for _, leaf in named):
        return _without_reserved_keys(name, plain(part, name))
    for leaf, count in Counter(leaf for leaf, _ in named).items():
        if count > 1:
            raise ValueError(f"{name} should have leaves of different paths, to be saved; found two of {leaf!r}")
    return {TREE: plain({leaf: value if value is None else value.detach() for leaf, value in named}, name)}


def _leaves(tree: Tree) -> list[tuple[str, Any]]:
    """Returns dotted path and value of every leaf, None among them; an empty list for what is not a tree."""
    try:
        paths, leaves = tree_paths(tree, none_is_leaf=True), tree_flatten(tree, none_is_leaf=True)[0]
    except (RecursionError, ValueError, TypeError):  # A list within itself, say.
        return []
    return [(".".join(map(str, path)), leaf) for path, leaf in zip(paths, leaves, strict=True)]


def _fields(config: BioConfig) -> dict[str, Any]:
    """Returns the fields of a configuration, without default functions, which no file can hold."""
    pairs = ((item.name, getattr(config, item.name), getattr(DEFAULT_BIO_CONFIG, item.name)) for item in fields(config))
    return {name: value for name, value, default in pairs if not (callable(default) and value is default)}


def _without_reserved_keys(name: str, part: Any) -> Any:
    """Returns a part; raises ValueError if it has a key that marks trees or configurations in the file."""
    for key in (TREE, CONFIG):
        if isinstance(part, dict) and key in part:
            raise ValueError(f"{name} should not have the key {key!r}, to be saved; found it")
    return part


def _unpacked(name: str, saved: Any, like: Tree) -> Any:
    if not isinstance(saved, dict):
        return saved
    if CONFIG in saved:
        return BioConfig(**saved[CONFIG])
    return _tree(name, saved[TREE], like) if TREE in saved else saved


def _tree(name: str, named: dict[str, Any], like: Tree) -> Any:
    if like is None:
        return named[""] if list(named) == [""] else named
    leaves, treedef = tree_flatten(like, none_is_leaf=True)
    wanted = dict(_leaves(like))
    for leaf in (*wanted, *named):
        if not _fits(wanted.get(leaf), named.get(leaf)):
            raise ValueError(f"{name} should have the leaves and shapes of the file's; found a difference at {leaf!r}")
    values = [named.get(leaf) for leaf in wanted]
    restored = [value if value is None else value.to(leaf) for value, leaf in zip(values, leaves, strict=True)]
    return tree_unflatten(treedef, restored)


def _fits(wanted: Any, saved: Any) -> bool:
    """Returns True if a leaf of the file fits that of the given tree; files of earlier versions leave out None."""
    if wanted is None or saved is None:
        return wanted is saved
    return isinstance(wanted, Tensor) and wanted.shape == saved.shape
