"""Features on the trees of some layers: functions of the user's own, and ours where layers are not plain memory."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from funcbio import rng
from funcbio.base import BioState, Tree
from funcbio.functional._init import initial_activity
from funcbio.mechanisms import Row
from funcbio.objects._buffers import changed_buffers, kept_state, lay_out, places_of
from funcbio.tensors._overlap import storage_of
from funcbio.tensors._sharding import is_distributed, local, shard_like

Around = Mapping[Any, tuple[Tensor, Tensor]]
"""What stands for the weight and the gradient of some layers, and is written to in their place."""


@torch.no_grad()
def run_on_trees(
    bios: Sequence[Any], row: Row, around: Around | None = None, *, sees_gradients: bool = False
) -> dict[str, Tensor]:
    """Runs a feature on trees of some layers, and writes back what it changed.

    Args:
        bios: The layers; the draws come from the key of the first, which has gone on like the others'.
        row: The feature.
        around: Stand for weights and gradients.
        sees_gradients: Whether a feature that needs no gradients is given them all the same, zeros where there are
            none; what it returns for them is left alone.

    Returns:
        Which weights were replaced, by name of the weight, if the feature says so.
    """
    weights = {bio.synapse.weight: bio.weight if around is None else around[bio][0] for bio in bios}
    for bio in bios:
        # Only now it is sure how; from here on no process holds rates of other rows.
        if bio.fuzzy_learning_rate_parameters.ndim and is_distributed(bio.weight):
            bio.fuzzy_learning_rate_parameters = shard_like(bio.fuzzy_learning_rate_parameters, bio.weight)
    first, places = bios[0], places_of(bios)
    lay_out(places)
    reads = sees_gradients or row.reads_gradient(first.config)
    grads = _gradients(bios, weights, around) if reads else weights  # Ours pass on what they get.
    before = _state(bios, weights, row)._replace(**kept_state(places, row.keeps(first.config)))
    params, changed, state = row.bound(first.config)(weights, grads, before, key=local(first.key))
    params, state = keep_padding(bios, weights, params, state)
    if around is not None:  # An update of a padding row moves it too.
        changed, _ = keep_padding(bios, grads, changed, state)
    pairs: list[tuple[Tensor, Tensor]] = []
    for bio, (leaf, weight) in zip(bios, weights.items(), strict=True):
        pairs += [(weight, params[leaf])]
        pairs += [(bio.fuzzy_learning_rate_parameters, state.rate[leaf])] if state.rate is not before.rate else []
        pairs += [(grads[leaf], changed[leaf])] if row.needs_grad else []
    write_back([*pairs, *changed_buffers(places, before, state)])
    _move_on(bios, 0 if state.updates is before.updates else state.updates - before.updates, draws=row.draws)
    return {name: mask for name, mask in state.replaced.items() if mask.ndim} if state.replaced else {}


def _gradients(bios: Sequence[Any], weights: Mapping[str, Tensor], around: Around | None) -> dict[str, Tensor]:
    """Returns the gradients of some layers, or what stands for them; zeros where there are none."""
    grads = [bio.weight.grad if around is None else around[bio][1] for bio in bios]
    pairs = zip(weights.items(), grads, strict=True)
    return {leaf: torch.zeros_like(weight) if grad is None else grad for (leaf, weight), grad in pairs}


def _move_on(bios: Sequence[Any], updates: Tensor | int, *, draws: bool) -> None:
    """Counts updates, and moves keys on if numbers were drawn; parameters without a layer share those of one."""
    for bio in {id(bio.key): bio for bio in bios}.values():
        if isinstance(updates, Tensor):
            local(bio.updates).add_(updates)
        if draws:
            local(bio.key).add_(rng.step_of(local(bio.key).device))


def _state(bios: Sequence[Any], weights: Mapping[str, Tensor], row: Row) -> BioState:
    """Returns the state of some layers; without what no kernel of a row reads that acts on all parameters."""
    needed = {name for kernel in row.kernels(**row.configured(bios[0].config)) for name in kernel.needs()}
    if row.by_unit or not row.on_trees or needed & {"sign", "activity", "updates"}:
        return layers_state(bios, weights)
    rates = {name: bio.fuzzy_learning_rate_parameters for bio, name in zip(bios, weights, strict=True)}
    return BioState(rates if "rate" in needed else ())


def write_back(pairs: Sequence[tuple[Tensor, Tensor]]) -> None:
    """Writes values to their targets; a function may have returned one of them in the place of another."""
    unsafe = {None, *(storage_of(target) for target, _ in pairs)}
    changed = [(target, value) for target, value in pairs if value is not target]
    copies = [value.clone() if storage_of(value) in unsafe else value for _, value in changed]
    for (target, _), value in zip(changed, copies, strict=True):
        target.copy_(value)


def layers_state(bios: Sequence[Any], weights: Mapping[str, Tensor]) -> BioState:
    """Returns the state of some layers as trees, laid out as their weights are."""
    rates, signs, counts = {}, {}, {}
    for bio, (leaf, weight) in zip(bios, weights.items(), strict=True):
        rates[leaf], sign = bio.fuzzy_learning_rate_parameters, bio.state_tensor("sign")
        counts[leaf] = initial_activity(weight, bio.synapse, bio.config)
        if bio.records_activity:
            counts[leaf] = shard_like(bio.synapse.along_post(local(bio.activation_count), weight.shape), weight)
        signs[leaf] = weight.new_ones(()) if sign is None or sign.ndim == 0 else shard_like(sign, weight)
    return BioState(rate=rates, sign=signs, activity=counts, updates=local(bios[0].updates))


def keep_padding(
    bios: Sequence[Any], weights: Mapping[str, Tensor], params: Tree, state: BioState
) -> tuple[dict[str, Tensor], BioState]:
    """Leaves the padding rows of embeddings as they are: they are no synapses, and stay zero."""
    kept: dict[str, Tensor] = dict(params)  # pyright: ignore[reportArgumentType, reportCallIssue]
    replaced: Any = dict(state.replaced) if state.replaced else state.replaced
    for bio, (leaf, weight) in zip(bios, weights.items(), strict=True):
        row = padding_row(bio.get_parent(), weight)
        if row is not None and kept[leaf] is not weight:
            kept[leaf] = torch.where(row, weight, kept[leaf])
            if replaced:
                replaced[leaf] = replaced[leaf] & ~row
    return kept, state._replace(replaced=replaced)


def padding_row(layer: nn.Module, weight: Tensor) -> Tensor | None:
    """Returns the index of the padding row in an embedding's weight; None if it has none."""
    padding = getattr(layer, "padding_idx", None)
    if padding is None:
        return None
    return shard_like(torch.arange(weight.shape[0], device=weight.device).unsqueeze(-1) == padding, weight)
