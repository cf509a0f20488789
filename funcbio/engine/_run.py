"""The engine: runs kernels on layers and on trees, each by the fastest of three ways that gives the same numbers."""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from optree import tree_leaves
from torch import Tensor
from torch.autograd import forward_ad

from funcbio._checks import plain_number, require, require_like, require_within, shown
from funcbio.base import KEPT, Key, Tree, leaf_names
from funcbio.engine._arranged import Arranged
from funcbio.engine._kernel import Kernel, bare
from funcbio.engine._layers import Layer, Step, broadcasts, is_alike, is_key, takes_part
from funcbio.engine._options import OPTIONS
from funcbio.engine._trees import layers_of, run_on_leaves, with_leaves
from funcbio.tensors._kept import is_watched
from funcbio.tensors._sharding import is_plain

TREES = ("rate", "sign", "activity", *KEPT)
"""Fields of the state that are trees like the parameters."""


def run_kernel(
    kernel: Kernel, params: Tree, grads: Tree, state: Any, /, *, key: Key | None = None, **hyper: Any
) -> tuple[Tree, Tree, Any]:
    """Runs a kernel on every synapse of the trees, as a pure function.

    Raises:
        ValueError: If the trees that it reads do not fit, a hyper-parameter is out of its limits, or a key is missing.
    """
    plain = {name: plain_number(value) for name, value in hyper.items()}
    return run_steps((Step("", kernel, plain, kernel.needs()),), params, grads, state, key=key)


def run_steps(
    steps: Sequence[Step], params: Tree, grads: Tree, state: Any, /, *, key: Key | None, compiled: bool = False
) -> tuple[Tree, Tree, Any]:
    """Runs kernels one after the other on trees, as a pure function: in tiles of fresh copies where possible.

    Args:
        steps: The kernels; at most one of them counts updates.
        params: Tree of weights.
        grads: Tree of gradients.
        state: The state.
        key: The key of all their draws.
        compiled: Whether large layers run as a compiled program.
    """
    for step in steps:
        require_within(step.kernel.limits, step.hyper)
        _require_trees(step, params, grads, state)
    layers = _fitting_layers(steps, params, grads, state, key, compiled=compiled)
    if layers is None:
        for step in steps:
            params, grads, state = run_on_leaves(step, params, grads, state, key)
        return params, grads, state
    names, written = leaf_names(params), {name for step in steps for name in step.kernel.writes}
    results = {name: [layer.get(name) for layer in layers] for name in written}
    calls = []
    for index, (name, operands) in enumerate(zip(names, layers, strict=True)):
        layer = Layer(name, key, operands, compiled, False)  # pyright: ignore[reportArgumentType]
        acting = [step for step in steps if takes_part(layer, step)]
        # Nothing acts on a weight without elements, which comes back as a new one all the same.
        writing = acting if operands["weight"].numel() else steps
        for target in {target for step in writing for target in step.kernel.writes} & operands.keys():
            results[target][index] = operands[target] = _copy(operands[target], compiled)
        calls.append((layer, acting))
    with torch.no_grad():
        masks = Arranged(calls).run()
    if "replaced" in results:
        mark = next(step.kernel.marks[0] for step in steps if "replaced" in step.kernel.writes)
        results["replaced"] = [
            _none(layer["weight"], layer[mark]) if mask is None else mask
            for mask, layer in zip(masks, layers, strict=True)
        ]
    return with_leaves(results, params, grads, state, updates=sum(step.kernel.advances for step in steps))


def _require_trees(step: Step, params: Tree, grads: Tree, state: Any) -> None:
    """Raises ValueError if a tree that a kernel reads does not fit ``params``."""
    nothing = [tree is None for tree in (params, state)]
    missing = nothing == [False, True] and "rate" in step.needs
    require("state", state, "a BioState, as funcbio.init makes it", not missing)
    optionals = {bare(name) for name in step.kernel.reads if name.endswith("?")}
    optionals |= {"mask"} - step.needs  # It counts for all that write weights, where there is one.
    fields: dict[str, Any] = {name: getattr(state, name, ()) for name in TREES if name in step.needs or name == "mask"}
    present = {name: tree for name, tree in fields.items() if name not in optionals or tree_leaves(tree)}
    for name in present.keys() & set(KEPT):
        if not tree_leaves(present[name]) and tree_leaves(params):
            raise ValueError(f"state.{name} should be kept, by init(..., keep=[{name!r}]); found {present[name]!r}")
    require_like(params, grads=grads, **present)
    updates = getattr(state, "updates", None) if "updates" in step.needs else None
    counts = isinstance(updates, Tensor) and not updates.ndim and updates.dtype in (torch.int64, torch.int32)
    if "updates" in step.needs and not counts:
        raise ValueError(f"updates should be an int64 tensor of no dimensions; found {shown(updates)}")


def _fitting_layers(
    steps: Sequence[Step], params: Tree, grads: Tree, state: Any, key: Key | None, *, compiled: bool
) -> list[dict[str, Any]] | None:
    """Returns the layers that steps can run on in tiles of copies; None if they have to run leaf by leaf.

    Copies cost more than they save on small trees. All must be plain memory, and no operation has to be seen.
    """
    draws = any(step.kernel.draws for step in steps)
    mask: Any = getattr(state, "mask", ())
    masked = tree_leaves(mask) and any("weight" in step.kernel.writes for step in steps)
    if masked or any(step.kernel.by_leaf for step in steps):
        return None
    if is_watched() or forward_ad._current_level >= 0 or (draws and not is_key(key)):
        return None
    elements = sum(weight.numel() for weight in tree_leaves(params))  # pyright: ignore[reportAttributeAccessIssue]
    if elements < OPTIONS.tree_elements and not compiled:
        return None
    layers = layers_of(frozenset({"weight"}).union(*(step.needs for step in steps)), params, grads, state)
    numbers = [value for step in steps for value in step.hyper.values() if isinstance(value, Tensor)]
    tensors = [value for layer in layers for value in layer.values() if isinstance(value, Tensor)]
    if torch.is_grad_enabled() and any(value.requires_grad for value in (*numbers, *tensors)):
        if compiled:
            warnings.warn("compile=True has no effect while gradients are recorded: use torch.no_grad()", stacklevel=5)
        return None
    device = key.device if draws and key is not None else None
    plain = all(map(is_plain, numbers)) and all(_is_plain(layer, device) for layer in layers)
    return layers if plain else None


def _is_plain(layer: dict[str, Any], device: torch.device | None) -> bool:
    """Returns True if tiles can work on a layer's memory, or if it has no synapses."""
    weight, rate, sign = layer["weight"], layer.get("rate"), layer.get("sign")
    marks = [mark for mark in (rate, sign, layer.get("activity")) if mark is not None]
    if not any(mark.ndim for mark in marks):
        return True
    whole = [layer[name] for name in ("weight", "grad", "rate") if name in layer and layer[name].ndim]
    spread = [mark for mark in marks if mark is not rate and mark.ndim]
    if device is not None and weight.device != device:
        return False
    return all(is_alike(value, weight) for value in whole) and all(
        is_plain(value) and value.device == weight.device and broadcasts(value, weight) for value in spread
    )


def _copy(value: Tensor, compiled: bool) -> Tensor:
    return value.detach().clone(memory_format=torch.contiguous_format if compiled else torch.preserve_format)


def _none(weight: Tensor, mark: Tensor) -> Tensor:
    """Returns a mask of no replaced weight, of no dimensions where there is no synapse."""
    return torch.zeros_like(weight if mark.ndim else mark, dtype=torch.bool)
