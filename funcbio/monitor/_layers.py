"""The leaves of the trees that are layers, with the tensors of each."""

from collections.abc import Mapping
from typing import Any

import optree
from torch import Tensor

from funcbio._checks import require, require_like
from funcbio.anatomy._synapses import Synapse
from funcbio.base import Tree, leaf_names, leaves_as
from funcbio.monitor._kept import KEPT
from funcbio.monitor._units import fields_of_units
from funcbio.tensors._sharding import whole

FIELDS = ("rate", "sign", "activity", "replaced", "age", *KEPT)
"""Fields of the state that are measured."""


def layers_of(
    params: Tree, trees: Mapping[str, Tree], state: Any, synapses: Mapping[str, Synapse] | None
) -> dict[str, dict[str, Tensor]]:
    """Returns the tensors of every layer that has elements, by its name; leaves of no dimensions count as absent.

    Args:
        params: Tree of parameters.
        trees: "grad" and "update", each a tree shaped like ``params``, or empty.
        state: Any state.
        synapses: Description of the model; None finds weights by their dimensions where the state has no rates.

    Raises:
        ValueError: If a tree does not fit ``params``, or a described weight is not there.
    """
    present: dict[str, Any] = dict(trees) | {field: getattr(state, field, ()) for field in FIELDS}
    present = {field: tree for field, tree in present.items() if optree.tree_leaves(tree)}
    require_like(params, **{("grads" if field == "grad" else field): tree for field, tree in present.items()})
    names = leaf_names(params)
    if synapses is not None:
        missing = sorted(set(synapses) - set(names))
        require("synapses", missing, "a description of weights in params", not missing)
    columns = {field: leaves_as(tree, params) for field, tree in {"weight": params, **present}.items()}
    layers = {}
    for index, name in enumerate(names):
        leaves = {field: column[index] for field, column in columns.items()}
        if _holds_synapses(name, leaves, synapses):
            found = {field: whole(leaf).detach() for field, leaf in leaves.items() if leaf.ndim > 0}
            layers[name] = found | fields_of_units(state, name)
    return layers


def _holds_synapses(name: str, leaves: Mapping[str, Tensor], synapses: Mapping[str, Synapse] | None) -> bool:
    weight = leaves["weight"]
    if weight.numel() == 0:
        return False
    if "rate" in leaves:
        return leaves["rate"].ndim > 0
    return weight.ndim > 1 if synapses is None else name in synapses
