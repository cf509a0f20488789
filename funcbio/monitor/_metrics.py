"""The metrics of all layers and of the whole model, as a pure function of the triple."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from funcbio._checks import is_number, require, require_numbers
from funcbio.anatomy._synapses import Synapse
from funcbio.anatomy._units import Units
from funcbio.base import BioState, Number, Tree
from funcbio.monitor._amounts import pool, quantiles_of
from funcbio.monitor._layers import layers_of
from funcbio.monitor._measure import Limits, measure
from funcbio.monitor._units import conflicts

WHOLE = "all"
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def metrics(
    params: Tree,
    grads: Tree,
    state: BioState,
    /,
    *,
    update: Tree = (),
    quantiles: Sequence[float] = QUANTILES,
    ranks: bool = False,
    crystallized_below: Number = 0.5,
    dormant_up_to: Number = 0.0,
    clipped_at: Number = 2.0,
    synapses: Mapping[str, Synapse] | None = None,
    units: Units | None = None,
) -> dict[str, dict[str, Tensor]]:
    r"""Measures the synapses of every layer and of the whole model.

    A layer is a weight that holds synapses: its leaf in ``state.rate`` has dimensions. Without rates it is any leaf of
    two and more dimensions, or what ``synapses`` names. Biases and norms are left out. Entries whose input
    is absent, an empty tree or a leaf of no dimensions, are left out.

    | entry | of | meaning |
    |---|---|---|
    | ``rate_mean``, ``rate_std``, ``rate_q5`` ... | ``rate`` | the rate factors; the number is the percentage |
    | ``crystallized`` | ``rate`` | share of weights whose rate is under ``crystallized_below`` |
    | ``replaced`` | ``replaced`` | share of weights that the last rejuvenation replaced |
    | ``age_mean``, ``age_q5`` ... | ``age`` | steps since a weight was replaced |
    | ``excitatory`` | ``params`` | share of positive weights among those that are not zero; nan if all are |
    | ``excitatory_units`` | ``sign`` | share of the Dale signs that are positive; columns without one do not count |
    | ``sign_violations`` | ``sign`` | share of weights whose sign is not that of their unit in this matrix |
    | ``dormant`` | ``activity`` | share of units that were active ``dormant_up_to`` times the layer's mean, or less |
    | ``dormant`` | ``units`` | where signals are kept: share of units whose signal is so small; not of unseen units |
    | ``dormant_by_signal`` | ``units`` | 1 where ``dormant`` is measured by signals |
    | ``units_replaced`` | ``units`` | share of units that the last mechanism on units replaced |
    | ``sign_conflicts`` | ``sign`` | with ``units``: share of units that excite by some weights, inhibit by others |
    | ``start_distance``, ``tortoise_distance`` | ``start``, ``tortoise`` | norm of the difference, over theirs |
    | ``density`` | ``mask`` | share of the connections that exist |
    | ``clipped`` | ``bound`` | share of weights at ``clipped_at`` times their bound, or beyond |
    | ``utility_mean``, ``utility_std`` | ``utility`` | mean and spread of the running utility |
    | ``spectral_norm`` | ``singular`` | largest singular value, by the kept vector: a lower bound |
    | ``stable_rank``, ``effective_rank`` | ``params`` | directions that the layer uses; with ``ranks=True`` |
    | ``weight_norm``, ``grad_norm``, ``update_norm`` | trees | Euclidean norms |
    | ``relative_update`` | ``update`` | ``update_norm / weight_norm`` |

    A unit with other signs in another weight matrix is no violation, but a conflict, which ``units`` shows.
    The whole model pools all weights and all units; ranks and spectral norms are averaged over layers. A state does not
    remember initial rates; no distribution starts under ``fuzzy_lr_min``, so a rate under its default 0.5 has
    been dampened, and ``crystallized_below`` should follow a configuration with another ``fuzzy_lr_min``. Activity
    counts a layer's own output, before any activation function that follows: a unit behind a ReLU that never fires
    does not count as dormant. Before the first forward pass, all units are dormant.

    Cost: one pass over the weights for most of it, a sort for quantiles (``quantiles=()`` leaves them out), and a
    singular value decomposition of every layer for ranks: $O(m n \min(m, n))$, so not in every step.
    Shards of a distributed tensor are gathered, a layer at a time; all processes must call it.

    Args:
        params: Tree of weights.
        grads: Tree of gradients, shaped like ``params``, or ``()``.
        state: A ``BioState``, or any state with some of its fields; missing fields count as empty.
        update: What the optimizer's step added to the weights, a tree shaped like ``params``.
        quantiles: Levels between 0 and 1.
        ranks: Whether to compute stable and effective ranks.
        crystallized_below: Rate under which a weight counts as crystallized.
        dormant_up_to: Activity, relative to the layer's mean, up to which a unit counts as dormant; 0 means
            never active.
        clipped_at: Multiple of its bound from which a weight counts as clipped: the ``kappa`` of ``clip_weights``.
        synapses: Description of the model from ``funcbio.synapses``, for ranks: as a matrix, a weight has a row
            for each post-synaptic unit. None takes the layout of Linear and Conv.
        units: Table of the model's units from ``funcbio.units``, for conflicts of signs.

    Returns:
        Entries by layer, under its dotted name, and of the whole model under "all": 0-d tensors, float32 or better.
        Nothing if there is no layer.

    Raises:
        ValueError: If a tree does not fit ``params``, a level is not between 0 and 1, or a layer is called "all".

    Example:
        >>> weight = torch.tensor([[3.0, 0.0], [0.0, -4.0]])
        >>> params = {"fc": {"weight": weight, "bias": torch.zeros(2)}}
        >>> state = init(params, key=key(0), config=BioConfig(fuzzy_lr_distribution="baseline"))
        >>> entries = metrics(params, (), state, quantiles=(0.5,), ranks=True)
        >>> list(entries)
        ['fc.weight', 'all']
        >>> (
        ...     entries["all"]["weight_norm"],
        ...     entries["all"]["rate_q50"],
        ...     entries["fc.weight"]["stable_rank"],
        ... )
        (tensor(5.), tensor(1.), tensor(1.5625))

    References:
        Dormant units: Sokar et al., ICML 2023. Ranks: see ``funcbio.monitor.stable_rank`` and ``effective_rank``.
    """
    require_numbers(crystallized_below=crystallized_below, dormant_up_to=dormant_up_to, clipped_at=clipped_at)
    levels = _levels(quantiles)
    layers = layers_of(params, {"grad": grads, "update": update}, state, synapses)
    require("params", WHOLE, f"a tree without a layer called {WHOLE!r}", WHOLE not in layers)
    limits, described = Limits(crystallized_below, dormant_up_to, bool(ranks), clipped_at), synapses or {}
    if units is not None:
        for name, found in conflicts(units, layers).items():
            layers[name]["conflicts"] = found
    amounts = {name: measure(layer, described.get(name), limits) for name, layer in layers.items()}
    entries = {name: _entries([amounts[name]], [layers[name]], levels) for name in layers}
    if layers:
        entries[WHOLE] = _entries([*amounts.values()], [*layers.values()], levels)
    return entries


def _levels(quantiles: Sequence[float]) -> dict[str, float]:
    """Returns the levels by the end of an entry's name: 0.05 is "q5"."""
    good = isinstance(quantiles, Sequence) and all(is_number(q) and 0.0 <= q <= 1.0 for q in quantiles)
    require("quantiles", quantiles, "a sequence of numbers between 0 and 1", good)
    return {f"q{100.0 * level:g}": level for level in quantiles}


def _entries(
    measured: Sequence[Mapping[str, Any]], layers: Sequence[Mapping[str, Tensor]], levels: Mapping[str, float]
) -> dict[str, Tensor]:
    """Pools the amounts of one or more layers."""
    entries: dict[str, Tensor] = {}
    for name in dict.fromkeys(name for amounts in measured for name in amounts):
        entries[name] = pool([amounts[name] for amounts in measured if name in amounts])
        field = name.removesuffix("_std").removesuffix("_mean")
        if name in ("rate_std", "age_mean"):
            values = [layer[field] for layer in layers if field in layer]
            quantiles = quantiles_of(values, [*levels.values()])
            entries.update({f"{field}_{end}": value for end, value in zip(levels, quantiles, strict=True)})
    if "update_norm" in entries:
        # Both norms over the layers that have an update: the weights of other layers would dilute the ratio.
        moved = [amounts for amounts in measured if "update_norm" in amounts]
        entries["relative_update"] = entries["update_norm"] / pool([amounts["weight_norm"] for amounts in moved])
    return {name: value if value.is_floating_point() else value.to(torch.float32) for name, value in entries.items()}
