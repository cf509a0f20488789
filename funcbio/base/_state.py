"""The state of the mechanisms: what they remember between steps."""

from typing import NamedTuple

import optree

from funcbio.base._trees import leaf_names
from funcbio.base._types import Tree
from funcbio.base._words import listed


class BioState(NamedTuple):
    """Holds what the mechanisms remember between steps, as trees shaped like ``params``.

    A leaf of no dimensions marks a parameter that is no synapse (a bias, a norm, an exempt layer):
    mechanisms leave that parameter alone. A tree that is not used is the empty tuple.

    Attributes:
        rate: Rate factor of every weight, shaped like the weight.
        sign: Dale sign of every pre-synaptic unit in this weight, with which it broadcasts: +1, -1, or 0 for none.
        activity: int64 count of active outputs, that broadcasts along the weight's post-synaptic axis.
        replaced: Which weights the last rejuvenation replaced, bool, shaped like the weight.
        updates: 0-d int64 tensor, number of ``update_fuzzy_learning_rates`` calls so far.
        age: int32 steps since a weight was replaced, or since counting began, shaped like the weight.
        start: The parameters at the beginning, shaped like them.
        tortoise: The slow average of the parameters that ``hare_and_tortoise`` keeps.
        utility: The running utility of every weight that ``upgd`` keeps.
        direction: The running average of the negative gradient that ``dash`` keeps.
        mask: Which connections exist, bool, shaped like the weight; see ``prune_and_regrow``.
        bound: The bound of ``clip_weights``, one number, that broadcasts along every axis of the parameter.
        norm: The Euclidean norm at the beginning, likewise; see ``project_norms``.
        singular: A unit vector along the weight's first axis, that broadcasts along all others; see
            ``spectral_regularization``.
        calls: How often the features that count their calls were called, a 0-d int64 tensor by name.
        units: What is kept for units, such as their signals: by name of the field a dictionary with a tensor for
            each population of ``funcbio.units``.

    The fields from ``start`` on are kept only where a mechanism needs them; ``init(..., keep=...)`` makes them. In
    each, a leaf of no dimensions marks a parameter that the mechanisms that read it leave alone.

    Example:
        >>> BioState(rate={"w": torch.ones(2, 2)}).rate["w"].shape
        torch.Size([2, 2])
    """

    rate: Tree
    sign: Tree = ()
    activity: Tree = ()
    replaced: Tree = ()
    updates: Tree = ()
    age: Tree = ()
    start: Tree = ()
    tortoise: Tree = ()
    utility: Tree = ()
    direction: Tree = ()
    mask: Tree = ()
    bound: Tree = ()
    norm: Tree = ()
    singular: Tree = ()
    calls: Tree = ()
    units: Tree = ()

    def __repr__(self) -> str:
        """Returns a line for every field that is kept: names and shapes of its leaves, none of their values."""
        kept = {name: tree for name, tree in zip(self._fields, self, strict=True) if optree.tree_leaves(tree)}
        return "\n  ".join([f"{type(self).__name__}:", *(f"{name}: {_outline(tree)}" for name, tree in kept.items())])


def _outline(tree: Tree) -> str:
    """Returns names and shapes of a tree's leaves; values are not read, as a transform may hide them."""
    shapes = {
        name: tuple(getattr(leaf, "shape", ()))
        for name, leaf in zip(leaf_names(tree), optree.tree_leaves(tree), strict=True)
    }
    full = listed(f"{name} {shape}".strip() for name, shape in shapes.items() if shape)
    single = sum(not shape for shape in shapes.values())
    return "; ".join(part for part in (full, f"{single} of no dimensions" if single else "") if part)


KEPT = BioState._fields[6:-2]
"""The trees that are kept only where a mechanism needs them."""
