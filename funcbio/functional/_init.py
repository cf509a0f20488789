"""The state at the start: rate factors, Dale signs, counters."""

from collections.abc import Collection, Mapping

import torch
from optree import tree_flatten, tree_unflatten
from torch import Tensor

from funcbio import rng
from funcbio._checks import brief, is_real, require_key, require_like, shown
from funcbio.anatomy._synapses import Synapse, infer_synapses, require_layout
from funcbio.anatomy._units import Units
from funcbio.base import BioState, Key, Tree, leaf_names
from funcbio.bio_config import DEFAULT_BIO_CONFIG, BioConfig
from funcbio.functional._keep import fields_of, keep_fields
from funcbio.functional._signs import signs_of
from funcbio.mechanisms._rates import sample_rates
from funcbio.mechanisms._release import VERSION, sign_shape
from funcbio.tensors._sharding import shard_like


def initial_rate(key: Key, weight: Tensor, synapse: Synapse, config: BioConfig) -> Tensor:
    """Draws the rate factors of one layer as the configuration says."""
    return sample_rates(
        key,
        weight,
        distribution=str(config.fuzzy_lr_distribution.value),  # pyright: ignore[reportAttributeAccessIssue]
        nu=config.fuzzy_learning_rate_factor_nu,
        minimum=config.fuzzy_lr_min,
        maximum=config.fuzzy_lr_max,
        depth=synapse.depth,
        variant=config.fuzzy_lr_variant,
        stream=f"rate/{synapse.weight}",
    )


def initial_sign(key: Key, weight: Tensor, synapse: Synapse, config: BioConfig) -> Tensor:
    """Draws one layer's Dale signs; 0-d where the principle does not apply."""
    if synapse.readout or not config.apply_dales_principle:
        return weight.new_ones(())
    require_layout(synapse, "apply_dales_principle")
    return draw_sign(key, weight, synapse, config)


def unit_sign(signs: Mapping[str, Tensor], weight: Tensor, synapse: Synapse) -> Tensor:
    """Lays the signs of the units that a layer's weights come from out along it; 0-d where none has a sign."""
    sign = signs.get(synapse.weight)
    if sign is None or synapse.readout:
        return weight.new_ones(())
    require_layout(synapse, "apply_dales_principle")
    return shard_like(synapse.along_pre(sign.to(weight), weight.shape).clone(), weight)


def draw_sign(key: Key, weight: Tensor, synapse: Synapse, config: BioConfig) -> Tensor:
    """Draws a sign for each pre-synaptic unit, or as the variant has them."""
    shape = sign_shape(weight.shape) if config.dales_variant == VERSION else (synapse.pre_units(weight.shape),)
    excitatory = rng.bernoulli(key, config.dales_excitatory_fraction, shape, stream=f"sign/{synapse.weight}")
    sign = torch.where(excitatory, 1.0, -1.0).to(weight.dtype)
    return shard_like(sign if sign.ndim > 1 else synapse.along_pre(sign, weight.shape), weight)


def initial_activity(weight: Tensor, synapse: Synapse, config: BioConfig) -> Tensor:
    """Makes zero counts for one layer's post-synaptic units; 0-d where activity is not recorded."""
    if not (config.records_activity and synapse.observable):
        return torch.zeros((), dtype=torch.int64, device=weight.device)
    units = synapse.post_units(weight.shape)
    count = torch.zeros(units, dtype=torch.int64, device=weight.device)
    return shard_like(synapse.along_post(count, weight.shape), weight)


def init(
    params: Tree,
    *,
    key: Key,
    config: BioConfig = DEFAULT_BIO_CONFIG,
    synapses: Mapping[str, Synapse] | None = None,
    keep: Collection[str] = (),
    units: Units | None = None,
) -> BioState:
    """Makes the state that the mechanisms start from.

    Args:
        params: Tree of parameters, for instance ``dict(model.named_parameters())``.
        key: The key; rates and signs derive from it and from every leaf's path.
        config: Distribution and spread of the rates, Dale's principle, activity.
        synapses: Description of the model from ``funcbio.synapses``. None takes every leaf of two or more
            dimensions as synapses, in the layout of Linear and Conv, and the last of them as read-out.
        keep: Names of mechanisms whose fields of the state are to be made, such as "l2_init", or of fields, such as
            "start"; they take memory, so no others are.
        units: Table of the units from ``funcbio.units``; needed by mechanisms that act on units, such as "redo".

    Returns:
        The state; parameters that are no synapses, or that the description calls not trained, have leaves of no
        dimensions: the features leave them alone.

    Raises:
        ValueError: If ``synapses`` names a weight that ``params`` does not hold, ``keep`` names neither a mechanism nor
            a field, or Dale's principle applies to a
            weight of a layer of your own and nothing says which of its dimensions belongs to the inputs.

    Example:
        >>> state = init({"w": torch.ones(2, 3), "b": torch.ones(2)}, key=key(0))
        >>> state.rate["w"].shape, state.rate["b"].shape
        (torch.Size([2, 3]), torch.Size([]))
    """
    require_key(key)
    if not isinstance(config, BioConfig):
        raise ValueError(f"config should be a BioConfig; found {brief(config)}")
    fields_of(keep, config)
    require_like(params)
    described = infer_synapses(params) if synapses is None else synapses
    leaves, treedef = tree_flatten(params)
    names = leaf_names(params)
    missing = set(described) - set(names)
    if missing:
        raise ValueError(f"params should hold every weight that synapses names; found no {sorted(missing)[0]}")
    for name, leaf in zip(names, leaves, strict=True):
        if name in described and not (is_real(leaf) and leaf.ndim >= 2 and leaf.device == key.device):
            should = f"real floating-point numbers in two or more dimensions on {key.device}, as key"
            raise ValueError(f"params should hold {should} at {name!r} for a synapse; found {shown(leaf)}")
    signs = signs_of(key, units, config)
    columns = [
        _leaf_state(key, leaf, described.get(name), config, signs) for name, leaf in zip(names, leaves, strict=True)
    ]
    trees = [tree_unflatten(treedef, list(column)) for column in zip(*columns, strict=True)] or [params] * 4
    device = leaves[0].device if leaves else None
    kept = keep_fields(params, keep, key=key, config=config, synapses=described, units=units) if keep else {}
    return BioState(*trees, updates=torch.zeros((), dtype=torch.int64, device=device), **kept)


def _leaf_state(
    key: Key, leaf: Tensor, synapse: Synapse | None, config: BioConfig, signs: Mapping[str, Tensor] | None
) -> tuple[Tensor, ...]:
    """Makes rate, sign, activity and replaced of one parameter, in the order of BioState."""
    if synapse is None or not synapse.trained:
        zero = torch.zeros((), dtype=torch.int64, device=leaf.device)
        one = torch.ones((), dtype=torch.float32, device=leaf.device)
        return one, one.clone(), zero, zero.bool()
    return (
        initial_rate(key, leaf, synapse, config),
        initial_sign(key, leaf, synapse, config) if signs is None else unit_sign(signs, leaf, synapse),
        initial_activity(leaf, synapse, config),
        torch.zeros_like(leaf, dtype=torch.bool),
    )
