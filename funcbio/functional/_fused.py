"""Fused features: those of the library that follow one another as one feature, which runs as one compiled loop."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any

import torch
from optree import tree_leaves, tree_structure, tree_unflatten

from funcbio._checks import is_number, is_real
from funcbio.base import Feature, Key, Tree, leaf_names
from funcbio.engine._compiled import run_fused
from funcbio.engine._in_place import Layer, Step, is_alike, is_key, run_in_place
from funcbio.mechanisms import ROWS
from funcbio.tensors._kept import is_watched
from funcbio.tensors._sharding import is_plain

OPERANDS = frozenset({"weight", "grad", "rate"})


def fused(features: Sequence[Feature]) -> list[Feature]:
    """Puts features that follow one another together where a loop can run them."""
    parts: list[Feature] = []
    for may_fuse, group in groupby(features, lambda feature: _step(feature) is not None):
        chosen = tuple(group)
        parts.extend([Fused(chosen)] if may_fuse else chosen)
    return parts


def _step(feature: Feature) -> Step | None:
    """A feature as a step; None if it is none of the library, or not called as it should be."""
    partly = isinstance(feature, partial)
    function, given = (feature.func, feature.keywords) if partly else (feature, {})
    name = getattr(function, "__name__", "")
    row = ROWS.get(name)
    if row is None or row.feature is not function or (partly and feature.args):
        return None
    hyper = {**row.defaults, **given}
    if hyper.keys() != row.defaults.keys() or not all(map(_is_hyper, hyper.values())):
        return None
    step = row.step(name, hyper)
    return step if step is not None and step.needs <= OPERANDS | {"sign"} else None


def _is_hyper(value: object) -> bool:
    return isinstance(value, str) or is_number(value) or (is_real(value) and is_plain(value) and value.ndim == 0)  # pyright: ignore[reportAttributeAccessIssue]


@dataclass(frozen=True)
class Fused:
    """Some features of the library as one."""

    features: tuple[Feature, ...]

    def __call__(self, params: Tree, grads: Tree, state: Any, /, *, key: Key | None = None) -> tuple[Tree, Tree, Any]:
        """Runs them in place on copies of what they change; one by one where trees or key do not allow that."""
        trees = {"weight": params, "grad": grads, "rate": state.rate}
        signs: Tree = getattr(state, "sign", ())
        if not fits(trees, key) or any(sign.ndim for sign in tree_leaves(signs)):
            for feature in self.features:
                params, grads, state = feature(params, grads, state, key=key)
            return params, grads, state
        new = self._run({name: tree_leaves(tree) for name, tree in trees.items()}, leaf_names(params), key)
        back = {name: tree_unflatten(tree_structure(params), leaves) for name, leaves in new.items()}
        params, grads = back.pop("weight", params), back.pop("grad", grads)
        return params, grads, state._replace(**back) if back else state

    def _run(self, columns: dict[str, list[Any]], names: list[str], key: Any) -> dict[str, list[Any]]:
        """What is written, by name of the operand: a list of all leaves."""
        writes = {name for step in self._steps() for name in step.kernel.writes}
        rates = columns["rate"]
        new = {name: list(columns[name]) for name in writes if name in columns}
        if "replaced" in writes:
            new["replaced"] = [torch.zeros_like(rate, dtype=torch.bool) for rate in rates]
        kinds: dict[Any, list[int]] = {}
        for index, weight in enumerate(columns["weight"]):
            if rates[index].ndim and weight.numel():
                kinds.setdefault((weight.dtype, rates[index].dtype), []).append(index)
        for chosen in kinds.values():
            for name in new.keys() & columns.keys():
                for i in chosen:
                    new[name][i] = new[name][i].detach().clone(memory_format=torch.contiguous_format)
            given = [{n: new.get(n, column)[i] for n, column in columns.items()} | {"sign": None} for i in chosen]
            layers = [Layer(names[i], key, operands) for i, operands in zip(chosen, given, strict=True)]
            masks = run_in_place(self._steps(), layers, None, run_fused).get("replaced", ())
            for i, mask in zip(chosen, masks, strict=False):
                new["replaced"][i] = mask
        return new

    def _steps(self) -> list[Step]:
        return [step for feature in self.features if (step := _step(feature)) is not None]


def fits(trees: Mapping[str, Tree], key: Key | None) -> bool:
    """Whether all leaves are plain tensors of the shapes they should have, and nobody has to see every operation."""
    if is_watched():
        return False
    if key is None or not is_key(key):
        return False
    if len({tree_structure(tree) for tree in trees.values()}) != 1:
        return False
    synapses = [leaves for leaves in zip(*map(tree_leaves, trees.values()), strict=True) if leaves[-1].ndim]
    if not all(is_alike(tensor, leaves[0]) and tensor.device == key.device for leaves in synapses for tensor in leaves):
        return False
    if torch.is_grad_enabled() and any(tensor.requires_grad for leaves in synapses for tensor in leaves):
        warnings.warn("compile=True has no effect while gradients are recorded: use torch.no_grad()", stacklevel=4)
        return False
    return True
