"""Fields of the state kept only for mechanisms that need them: the start, averages, masks, bounds and norms."""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from optree import tree_flatten, tree_unflatten
from torch import Tensor

from funcbio import rng
from funcbio._checks import LARGEST, brief, is_real, perhaps, require
from funcbio.anatomy._synapses import Synapse
from funcbio.anatomy._units import Units
from funcbio.base import KEPT, Key, Tree, leaf_names
from funcbio.bio_config import BioConfig
from funcbio.mechanisms import ROWS, Row
from funcbio.mechanisms._density import initial_mask
from funcbio.mechanisms._project import norm_of
from funcbio.mechanisms._unit_fields import UNIT_FIELDS
from funcbio.tensors._sharding import shard_like, whole


class Leaf(NamedTuple):
    """Describes one parameter for which something may be kept.

    Attributes:
        name: Its dotted path.
        value: The parameter.
        synapse: Description of the weight; None if it is no synapse, or not trained.
        beside: The weight of two or more dimensions beside a bias, and its description, None if it is no synapse; None
            if there is no such weight.
        is_norm: Whether it is a norm's scale or offset.
        trained: Whether it is not a weight that the description calls not trained.
    """

    name: str
    value: Tensor
    synapse: Synapse | None
    beside: tuple[Tensor, Synapse | None] | None
    is_norm: bool
    trained: bool


def fields_of(keep: Collection[str], config: BioConfig) -> tuple[list[str], list[str]]:
    """Returns the fields of the state that are named, or that named mechanisms need, and the counters of these.

    Raises:
        ValueError: If a name is neither that of a field nor that of a mechanism.
    """
    names = not isinstance(keep, str) and isinstance(keep, Collection) and all(isinstance(name, str) for name in keep)
    require("keep", keep, "a list of names", names)
    for name in keep:
        if name not in KEPT and name not in ROWS and name not in UNIT_FIELDS:
            should = f"fields of the state or mechanisms{perhaps(name, [*KEPT, *UNIT_FIELDS, *ROWS])}"
            raise ValueError(f"keep should name {should}; found {brief(name)}")
    rows = [ROWS[name] for name in keep if name in ROWS]
    needed = {*keep, *(field for row in rows for field in row.keeps(config))}
    return [field for field in KEPT if field in needed], sorted({row.name for row in rows if row.counts_calls})


def needed_by(rows: Iterable[Row], config: BioConfig) -> list[str]:
    """Returns the names, as ``keep_fields`` takes them, of all that some mechanisms need."""
    return [
        name
        for row in rows
        for name in (*row.keeps(config), *row.keeps_for_units(config), *([row.name] if row.counts_calls else []))
    ]


def keep_fields(
    params: Tree,
    keep: Collection[str],
    *,
    key: Key,
    config: BioConfig,
    synapses: Mapping[str, Synapse],
    units: Units | None = None,
) -> dict[str, Any]:
    """Makes fields of the state, by name, counters of mechanisms that count their calls, and what is kept for units.

    Args:
        params: Tree of parameters, as they are now.
        keep: Names of fields, or of mechanisms.
        key: Key of the masks and of what else is drawn.
        config: The configuration.
        synapses: Description of the synapses.
        units: Table of the units; needed by mechanisms that act on units.

    Raises:
        ValueError: If a name is neither that of a field nor that of a mechanism, or the table of units is missing.
    """
    fields, counters = fields_of(keep, config)
    values, treedef = tree_flatten(params)
    leaves = leaves_of(leaf_names(params), values, synapses)
    columns = {field: [_kept(field, leaf, leaves, key, config) for leaf in leaves] for field in fields}
    kept: dict[str, Any] = {field: tree_unflatten(treedef, column) for field, column in columns.items()}
    device = values[0].device if values else None
    calls = {name: torch.zeros((), dtype=torch.int64, device=device) for name in counters}
    by_unit = keep_for_units(keep, config, units, dict(zip(leaf_names(params), values, strict=True)))
    return {**kept, **({"calls": calls} if calls else {}), **({"units": by_unit} if by_unit else {})}


def keep_for_units(
    keep: Collection[str], config: BioConfig, units: Units | None, params: Mapping[str, Any]
) -> dict[str, dict[str, Tensor]]:
    """Makes the fields of units that are named, or that named mechanisms need, by field and population.

    Raises:
        ValueError: If the table of units is missing.
    """
    needed = {name for name in keep if name in UNIT_FIELDS}
    needed |= {field for name in keep if name in ROWS for field in ROWS[name].keeps_for_units(config)}
    acting = [name for name in keep if name in ROWS and ROWS[name].by_unit]
    if units is None and (needed or acting):
        named = [*acting, *sorted(needed)][0]
        raise ValueError(f"units should be given for {named}, a table made by funcbio.units; found None")
    present = [] if units is None else [one for one in units.populations if one.edges and one.name in params]
    return {
        field: {one.name: UNIT_FIELDS[field].make(one.size, params[one.name].device) for one in present}
        for field in UNIT_FIELDS
        if field in needed
    }


def leaves_of(names: Sequence[str], values: Sequence[Any], synapses: Mapping[str, Synapse]) -> list[Leaf]:
    """Describes every parameter: by the synapses, and for others by names and shapes, as torch's modules have them."""
    by_name = dict(zip(names, values, strict=True))
    treated = {name: synapse for name, synapse in synapses.items() if synapse.trained}
    owners = {synapse.bias: name for name, synapse in synapses.items() if synapse.bias is not None}
    described = []
    for name, value in by_name.items():
        path, _, last = name.rpartition(".")
        scale = by_name.get(f"{path}.weight".lstrip("."))
        pair = _beside(name, owners.get(name), by_name, synapses)
        is_norm = (
            value.ndim == 1 and pair is None and last in ("weight", "bias") and scale is not None and scale.ndim == 1
        )
        trained = name in treated or name not in synapses
        described.append(Leaf(name, value, treated.get(name), pair, is_norm, trained))
    return described


def _beside(
    name: str, owner: str | None, by_name: Mapping[str, Any], synapses: Mapping[str, Synapse]
) -> tuple[Tensor, Synapse | None] | None:
    """Returns the weight beside a bias: its owner, or by torch's names, such as weight_ih_l0 beside bias_ih_l0."""
    path, _, last = name.rpartition(".")
    names = [f"{path}.{one}".lstrip(".") for one in (last.replace("bias", "weight"), "weight")]
    names = names if owner is None else [owner, *names]
    found = next((one for one in names if one in by_name and one != name and by_name[one].ndim >= 2), None)
    return None if found is None or name in synapses else (by_name[found], synapses.get(found))


def _kept(field: str, leaf: Leaf, leaves: Sequence[Leaf], key: Key, config: BioConfig) -> Tensor:
    """Makes one leaf of a field; of no dimensions where the mechanisms leave the parameter alone."""
    rule = MAKERS[field]
    none = not is_real(leaf.value) or leaf.value.ndim < rule.dims or not leaf.trained
    no_synapse = rule.synapses and leaf.synapse is None
    if none or no_synapse or (leaf.is_norm and not rule.norms and not config.treat_norms):
        return torch.zeros((), dtype=torch.bool if field == "mask" else torch.float32, device=leaf.value.device)
    return rule.make(leaf, leaves, key, config)


class Maker(NamedTuple):
    """Describes how a field is made.

    Attributes:
        make: From a leaf, all leaves, key and configuration to the leaf of the field.
        norms: Whether it also holds scales and offsets of norms.
        synapses: Whether it holds nothing but synapses.
        dims: The fewest dimensions of a parameter that it holds.
    """

    make: Callable[[Leaf, Sequence[Leaf], Key, BioConfig], Tensor]
    norms: bool = False
    synapses: bool = False
    dims: int = 1


def _copy(leaf: Leaf, *_: Any) -> Tensor:
    return leaf.value.detach().clone()


def _average(leaf: Leaf, *_: Any) -> Tensor:
    """Returns a copy in float32 at least: a slow average stands still in half precision."""
    return leaf.value.detach().to(torch.promote_types(leaf.value.dtype, torch.float32), copy=True)


def _zeros(leaf: Leaf, *_: Any) -> Tensor:
    return torch.zeros_like(leaf.value, dtype=torch.promote_types(leaf.value.dtype, torch.float32))


def _number(leaf: Leaf, value: Tensor | float) -> Tensor:
    wide = torch.promote_types(leaf.value.dtype, torch.float32)
    one = torch.as_tensor(value, dtype=wide, device=leaf.value.device).reshape((1,) * leaf.value.ndim)
    return shard_like(one, leaf.value)


MEASURES = {"spread": lambda weight: weight.std(correction=0), "maximum": lambda weight: weight.abs().amax()}


def _bound(leaf: Leaf, leaves: Sequence[Leaf], key: Key, config: BioConfig) -> Tensor:
    """Returns what ``clip_weights`` multiplies by kappa; that of the weight beside a bias that starts at zero."""
    del leaves, key
    weight, synapse = leaf.beside or (leaf.value, leaf.synapse)
    if config.clip_weights_bound == "fan_in" and _drawn_by_fan_in(synapse):
        return _number(leaf, 1.0 / math.sqrt(max(weight.numel() // max(weight.shape[0], 1), 1)))
    measure = MEASURES.get(config.clip_weights_bound, MEASURES["maximum"])
    wide = [whole(value.detach()).to(torch.promote_types(value.dtype, torch.float32)) for value in (leaf.value, weight)]
    own, other = (measure(value) if value.numel() else value.new_ones(()) for value in wide)
    return _number(leaf, torch.where(own > 0.0, own, torch.where(other > 0.0, other, LARGEST)))


def _drawn_by_fan_in(synapse: Synapse | None) -> bool:
    """Returns True if torch draws weights and bias within 1/sqrt(n) for n = weight[0].numel().

    That is no fan-in in transposed convolutions, but what torch takes for one. Embeddings are drawn otherwise.
    """
    return synapse is not None and synapse.observable and not synapse.kind.startswith("Embedding")


def _norm(leaf: Leaf, *_: Any) -> Tensor:
    wide = whole(leaf.value.detach()).to(torch.promote_types(leaf.value.dtype, torch.float32))
    return _number(leaf, norm_of(wide))


def _singular(leaf: Leaf, leaves: Sequence[Leaf], key: Key, config: BioConfig) -> Tensor:
    del leaves, config
    vector = rng.normal(key, (leaf.value.shape[0],), stream=f"singular/{leaf.name}")
    vector = vector / torch.linalg.vector_norm(vector).clamp_min(1e-30)
    return vector.to(torch.promote_types(leaf.value.dtype, torch.float32)).reshape(-1, *(1,) * (leaf.value.ndim - 1))


def _mask(leaf: Leaf, leaves: Sequence[Leaf], key: Key, config: BioConfig) -> Tensor:
    ordered = sorted([(one.synapse.index, one.name, one) for one in leaves if one.synapse is not None])
    shapes = {name: tuple(one.value.shape) for _, name, one in ordered}
    first = ordered[0][2].synapse
    begins = first is not None and first.index == 0 and first.total > 1
    options = {"density": config.density, "law": config.density_law}
    return initial_mask(key, leaf.name, shapes, **options, like=whole(leaf.value), begins=begins)


MAKERS = {
    "start": Maker(_copy),
    "tortoise": Maker(_average, norms=True),
    "utility": Maker(_zeros, norms=True),
    "direction": Maker(_zeros),
    "mask": Maker(_mask, synapses=True),
    "bound": Maker(_bound),
    "norm": Maker(_norm, dims=2),
    "singular": Maker(_singular, synapses=True),
}
