"""Kernels leaf by leaf: where every operation has to be seen, or the tiles cannot take a tensor."""

from collections.abc import Sequence
from typing import Any

import torch
from optree import tree_leaves, tree_map
from torch import Tensor

from funcbio._checks import is_real
from funcbio.base import Key, Tree, leaf_names, leaves_as, tree_as
from funcbio.engine._kernel import GRAD, WEIGHT, Draw, Kernel, Operands, apply, bare, optional
from funcbio.engine._layers import Step
from funcbio.rng import draw_tree
from funcbio.tensors._sharding import is_distributed

SPREAD = ("sign", "activity")
"""Operands with a number for every unit."""


def run_on_leaves(step: Step, params: Tree, grads: Tree, state: Any, key: Key | None) -> tuple[Tree, Tree, Any]:
    """Runs a kernel on every synapse of the trees, which have been checked; makes new trees."""
    kernel, layers = step.kernel, layers_of(step.needs | {"weight", "mask"}, params, grads, state)
    acting = [index for index, layer in enumerate(layers) if _acts(kernel, layer)]
    for layer in layers:
        layer.update({bare(name): optional(name, layer[bare(name)]) for name in kernel.reads})
    draws = [_drawn(kernel, draw, key, state, params, layers, acting) for draw in kernel.draws]
    results: dict[str, list[Any]] = {name: [layer.get(name) for layer in layers] for name in kernel.writes}
    _require_whole(step, params, [layers[index]["weight"] for index in acting])
    statistics = {index: kernel.take_statistics(_existing(kernel, layers[index])) for index in acting}
    if kernel.pool is not None and acting:
        statistics = dict.fromkeys(acting, kernel.pool([*statistics.values()]))
    for index, layer in enumerate(layers):
        if index not in statistics:
            if "replaced" in results:
                results["replaced"][index] = torch.zeros_like(layer[kernel.marks[0]], dtype=torch.bool)
            continue
        values = apply(kernel, layer, [leaves[index] for leaves in draws], statistics[index], step.hyper)
        for name, value in _masked(kernel, layer, values).items():
            results[name][index] = value
    return with_leaves(results, params, grads, state, updates=int(kernel.advances))


def _acts(kernel: Kernel, layer: Operands) -> bool:
    """Returns True if a layer has dimensions in all fields that mark it."""
    weight = layer["weight"]
    return weight.ndim > 0 and is_real(weight) and all(layer[name].ndim > 0 for name in kernel.marks)


def _existing(kernel: Kernel, layer: Operands) -> list[Any]:
    """Returns the operands of the statistics; to rules that replace weights, one that does not exist is nan."""
    mask, operands = layer["mask"], [layer[name] for name in kernel.of]
    if mask is None or mask.ndim == 0 or "replaced" not in kernel.writes:
        return operands
    return [torch.where(mask > 0, operand, torch.nan) for operand in operands]


def _masked(kernel: Kernel, layer: Operands, values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Keeps connections that do not exist at zero, whichever mechanism writes the weights."""
    mask = layer["mask"]
    if mask is None or mask.ndim == 0 or "mask" in kernel.writes or "weight" not in values:
        return values
    kept = {"weight": torch.where(mask, values["weight"], 0.0)}
    return {**values, **kept, **({"replaced": values["replaced"] & mask} if "replaced" in values else {})}


def _require_whole(step: Step, params: Tree, weights: Sequence[Tensor]) -> None:
    """Raises ValueError if a rule that has to see whole layers would see a shard."""
    if step.kernel.by_leaf and not step.kernel.elementwise and any(map(is_distributed, weights)):
        named = zip(leaf_names(params), tree_leaves(params), strict=True)
        sharded = next(name for name, leaf in named if is_distributed(leaf))  # pyright: ignore[reportArgumentType]
        raise ValueError(f"params should be whole tensors for {step.kernel.rule.__name__}; found {sharded} in shards")


def layers_of(names: frozenset[str], params: Tree, grads: Tree, state: Any) -> list[dict[str, Any]]:
    """Returns the named tensors of every parameter; None where the state has no such tree."""
    count = len(tree_leaves(params))

    def column(name: str) -> list[Any]:
        tree = tree_of(name, params, grads, state)
        leaves = tree_leaves(tree)
        if name == "updates":
            return leaves * count
        return leaves_as(tree, params) if leaves else [None] * count

    columns = {name: column(name) for name in names}
    return [dict(zip(columns, leaves, strict=True)) for leaves in zip(*columns.values(), strict=True)]


def tree_of(name: str, params: Tree, grads: Tree, state: Any) -> Any:
    """Returns the tree behind an operand."""
    return {WEIGHT: params, GRAD: grads}[name] if name in (WEIGHT, GRAD) else getattr(state, name, ())


def with_leaves(
    results: dict[str, list[Any]], params: Tree, grads: Tree, state: Any, *, updates: int
) -> tuple[Tree, Tree, Any]:
    """Returns the trees with new leaves in the place of those that kernels have written."""
    new: dict[str, Any] = {}
    for name, leaves in results.items():
        tree = tree_of(name, params, grads, state)
        new[name] = tree_as(tree if tree_leaves(tree) else params, params, leaves)
    params, grads = new.pop(WEIGHT, params), new.pop(GRAD, grads)
    if updates:
        new["updates"] = state.updates + updates
    return params, grads, state._replace(**new) if new else state


def _drawn(
    kernel: Kernel,
    draw: Draw,
    key: Key | None,
    state: Any,
    params: Tree,
    layers: Sequence[Operands],
    acting: Sequence[int],
) -> list[Tensor]:
    """Draws numbers for every leaf; those of the weights' size in the type that the rule computes in."""
    field: Tree = params if draw.like == "one" else getattr(state, draw.like)
    like, dtypes = tree_as(params, params, leaves_as(field, params)), [torch.float32] * len(layers)
    if draw.like not in ("one", *SPREAD):
        dtypes = [kernel.work(one) if index in acting else torch.float32 for index, one in enumerate(layers)]
    elif draw.like == "one":
        like = tree_map(lambda leaf: leaf[(slice(0, 1),) * leaf.ndim], like)
    dtypes = [torch.float64] * len(layers) if draw.fine else dtypes
    return tree_leaves(draw_tree(draw.law, key, draw.stream, like, dtypes))
