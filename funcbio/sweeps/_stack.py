"""A stack of members: their tensors laid on top of one another, made one by one from their own keys."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from funcbio.anatomy._synapses import Choice
from funcbio.anatomy._units import Units
from funcbio.base import brief
from funcbio.functional._bind import bind
from funcbio.functional._keep import needed_by
from funcbio.functional._stateless import first_names, named_tensors
from funcbio.mechanisms import apply_mask
from funcbio.mechanisms._renew import none_replaced
from funcbio.sweeps._member import MemberTensors
from funcbio.sweeps._seeded import seeded
from funcbio.sweeps._trials import Trial


def build(make: Callable[[], nn.Module], trial: Trial, shared: Sequence[str]) -> nn.Module:
    """Makes the model of one member: all draws of its code from torch's generator follow from the member's key."""
    with seeded(trial.key("weights", shared)):
        model = make()
    if not isinstance(model, nn.Module):
        raise ValueError(f"model should return an nn.Module when called; found {brief(model)}")
    return model


def begin(
    model: nn.Module, trial: Trial, shared: Sequence[str], synapses: Choice, units: Units | None = None
) -> MemberTensors:
    """Returns the tensors of one member at the start."""
    rows = [mechanism.row for mechanism in trial.mechanisms]
    bio = bind(model, trial.config, synapses, units=units)
    for name, synapse in bio.synapses.items():
        if synapse.named and not model.get_parameter(name).requires_grad:
            raise ValueError(f"synapses should name weights that are trained in a sweep; found {name} frozen")
    everything = {name: p.detach() for name, p in model.named_parameters()}
    params = {name: p for name, p in everything.items() if model.get_parameter(name).requires_grad}
    if not params:
        raise ValueError("model should have a parameter that requires a gradient; found none")
    state = bio.init(everything, key=trial.key("rates", shared))
    state = type(state)(*(_only(tree, params) for tree in state))
    if trial.config.apply_dales_principle:
        params, _, state = bio.apply_dales_principle(params, params, state)
    keep = needed_by(rows, trial.config)
    state = state._replace(**bio.keep(params, keep, key=trial.key("rates", shared)))
    if bio.units is not None and any(
        row.by_unit for row in rows
    ):  # As after a step, so that a run can be gone on with at any.
        state = state._replace(replaced=none_replaced(params, state, bio.units))
    params, _, state = apply_mask(params, params, state) if state.mask else (params, params, state)
    firsts = first_names(dict(named_tensors(model)))
    dtype = torch.float64 if any(p.dtype == torch.float64 for p in params.values()) else torch.float32
    return MemberTensors(
        params,
        {name: p for name, p in everything.items() if name not in params},
        {name: b.detach() for name, b in model.named_buffers() if firsts[name] == name},
        state,
        {what: trial.key(what, shared) for what in ("batches", "noise")},
        {name: _number(value, dtype) for name, value in trial.numbers.items()},
    )


def _only(tree: Any, params: dict[str, Tensor]) -> Any:
    return {name: leaf for name, leaf in tree.items() if name in params} if isinstance(tree, dict) else tree


def _number(value: float, dtype: torch.dtype) -> Tensor:
    return torch.tensor(value, dtype=torch.int64 if isinstance(value, int) else dtype)


def stack(
    make: Callable[[], nn.Module],
    trials: Sequence[Trial],
    shared: Sequence[str],
    synapses: Choice,
    device: torch.device,
    units: Units | None = None,
) -> MemberTensors:
    """Makes all members of a stack, one after the other, and lays them into one tensor for each leaf."""
    whole: MemberTensors | None = None
    near = None if units is None else units.to("cpu")  # Members are made there.
    for position, trial in enumerate(trials):
        member = begin(build(make, trial, shared), trial, shared, synapses, near)
        if whole is None:
            empty = lambda leaf: torch.empty((len(trials), *leaf.shape), dtype=leaf.dtype, device=device)  # noqa: E731
            whole = member.map(empty)
        for target, leaf in zip(whole.leaves(), member.leaves(), strict=True):
            if target.shape[1:] != leaf.shape:
                raise ValueError(
                    f"model should make the same network for every member; found shapes {tuple(target.shape[1:])} and "
                    f"{tuple(leaf.shape)}"
                )
            target[position].copy_(leaf)
    assert whole is not None
    return whole


def merged(first: dict[str, Any], later: dict[str, Any]) -> dict[str, Any]:
    """Merges changes and later changes into one."""
    both = {**first, **later}
    for name in first.keys() & later.keys():
        if isinstance(first[name], dict):
            both[name] = merged(first[name], later[name])
    return both


def replaced(members: MemberTensors, changes: dict[str, Any]) -> MemberTensors:
    """Returns the stack with changes in the place of its tensors."""
    new = {}
    for name, change in changes.items():
        old = getattr(members, name)
        if name == "state":
            fields = {f: v if isinstance(v, Tensor) else {**(getattr(old, f) or {}), **v} for f, v in change.items()}
            new[name] = old._replace(**fields)
        else:
            new[name] = {**old, **change}
    return members._replace(**new)
