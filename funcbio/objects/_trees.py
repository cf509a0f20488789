"""The triple of a converted model: its parameters, gradients and state as plain dictionaries."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from funcbio._checks import brief, perhaps, require
from funcbio.base import BioState, Tree
from funcbio.objects._buffers import kept_state, places_in
from funcbio.objects._layer import BioLayer
from funcbio.objects._on_trees import layers_state
from funcbio.objects._survey import bio_modules, once
from funcbio.tensors._sharding import local


def trees(model: nn.Module, **fields: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Tree, BioState]:
    """Returns the trees of a converted model that pure functions take, such as ``funcbio.metrics``.

    Nothing is copied: the tensors are the model's own, detached, and change as it trains.

    Args:
        model: A model that ``BioConverter`` has converted.
        **fields: Fields of the state that a model does not hold, by name of the weight; for instance
            ``replaced=model.rejuvenate_weights()``.

    Returns:
        Parameters by name, gradients by name and the state. Where only some parameters have a gradient, the others'
        is zero, a view of one number; where none has, it is the empty tree. Parameters that are no synapses have
        leaves of no dimensions in the state.

    Raises:
        ValueError: If the model has not been converted, a field is unknown, or one names a weight that is none of
            the model's synapses.

    Example:
        >>> model = BioConverter()(
        ...     torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 1))
        ... )
        >>> params, grads, state = trees(model, replaced=model.rejuvenate_weights())
        >>> state.replaced["0.weight"].shape, state.rate["0.bias"].shape, grads
        (torch.Size([2, 3]), torch.Size([]), ())
    """
    require("model", model, "a module that BioConverter has converted", isinstance(model, nn.Module))
    holders = {id(bio.weight): bio for bio in once(bio_modules(model))}
    require("model", type(model).__name__, "a module that BioConverter has converted", bool(holders))
    named = dict(model.named_parameters())
    bios = {name: holders.get(id(parameter)) for name, parameter in named.items()}
    given = {field: _by_name(field, values, bios) for field, values in fields.items()}
    params = {name: parameter.detach() for name, parameter in named.items()}
    grads = {name: _grad(parameter) for name, parameter in named.items()}
    state = state_of(named, bios)._replace(**kept_state(places_in(model, named)))
    some = any(parameter.grad is not None for parameter in named.values())
    return params, grads if some else (), state._replace(**{field: _filled(params, of) for field, of in given.items()})


def _grad(parameter: nn.Parameter) -> Tensor:
    if parameter.grad is None:
        return parameter.detach().new_zeros(()).expand(parameter.shape)
    return parameter.grad.detach()


def state_of(named: Mapping[str, Tensor], bios: Mapping[str, BioLayer | None]) -> BioState:
    """Returns the state of every layer, side by side; leaves of no dimensions where there is none."""
    present = {name: bio for name, bio in bios.items() if bio is not None}
    columns: dict[str, dict[str, Tensor]] = {"rate": {}, "sign": {}, "activity": {}}
    for name, parameter in named.items():
        bio = present.get(name)
        state = None if bio is None else layers_state([bio], {name: bio.weight})
        for field, column in columns.items():
            dtype = torch.int64 if field == "activity" else torch.float32
            none = torch.zeros((), dtype=dtype, device=parameter.device)
            column[name] = none if state is None else getattr(state, field)[name].detach()
    counting = [bio for bio in present.values() if bio.participates] or [*present.values()][:1]
    return BioState(**columns, updates=local(counting[-1].updates) if counting else ())


def _by_name(field: str, values: Mapping[str, Tensor], bios: Mapping[str, BioLayer | None]) -> dict[str, Tensor]:
    """Returns the values given for some weights, by the name of the parameter."""
    names = BioState._fields
    if field not in names:
        raise ValueError(f"fields should be those of BioState{perhaps(field, names)}; found {brief(field)}")
    require(field, values, "a mapping from names of weights to tensors", isinstance(values, Mapping))
    left, named = dict(values), {}
    for name, bio in bios.items():
        # Methods of a model name a weight as the model that was converted did; it may be part of a larger one now.
        key = name if bio is None or name in left else bio.synapse.weight
        if bio is not None and key in left:
            named[name] = left.pop(key)
    require(field, sorted(left), "given for weights that hold synapses", not left)
    return named


def _filled(params: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    kind = next(iter(given.values())).dtype if given else torch.bool
    return {name: given.get(name, torch.zeros((), dtype=kind, device=leaf.device)) for name, leaf in params.items()}
