"""Units that start anew: their incoming weights, biases and norms, their outgoing weights, and the next biases."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from optree import tree_flatten, tree_leaves, tree_unflatten
from torch import Tensor

from funcbio._checks import brief, require_like
from funcbio.anatomy._units import Edge, Part, Population, Units
from funcbio.base import Key, Tree, check_option, leaf_names, leaves_as
from funcbio.mechanisms._counted import counted, due_at
from funcbio.mechanisms._unit_draws import drawn, drawn_rows, has_a_row_each
from funcbio.mechanisms._unit_fields import NEW, with_kept
from funcbio.mechanisms._unit_scores import channels, row_sums
from funcbio.tensors._arithmetic import widened
from funcbio.tensors._kept import is_watched

OUTGOING = ("zero", "keep", "start")
"""What becomes of the weights that leave a new unit."""
FIXED = {"bias": 0.0, "scale": 1.0, "offset": 0.0, "mean": 0.0, "variance": 1.0}
"""Values of a new unit's entries, but for its incoming weights."""


class Named:
    """Holds the leaves of the trees by name, those of parameters that change as they change.

    Args:
        params: Tree of parameters.
        grads: Tree of gradients.
        state: A state with ``start``.

    Raises:
        ValueError: If trees do not fit, or ``start`` is not kept.
    """

    def __init__(self, params: Tree, grads: Tree, state: Any) -> None:
        start: Any = getattr(state, "start", ())
        if tree_leaves(params) and not tree_leaves(start):
            raise ValueError("state.start should be kept, by init(..., keep=['start']); found ()")
        fields: dict[str, Any] = {name: getattr(state, name, ()) for name in ("rate", "sign", "start", "mask")}
        present = {name: tree for name, tree in fields.items() if tree_leaves(tree)}
        require_like(params, grads=grads, **present)
        leaves, self.treedef = tree_flatten(params)
        self.names = leaf_names(params)
        self.params: dict[str, Tensor] = dict(zip(self.names, leaves, strict=True))  # pyright: ignore[reportAttributeAccessIssue]
        self.fields = {
            name: dict(zip(self.names, leaves_as(tree, params), strict=True)) for name, tree in present.items()
        }
        self.grads: dict[str, Tensor] = dict(zip(self.names, leaves_as(grads, params), strict=True))
        self.replaced: dict[str, Tensor] = {}
        self.of_units: set[str] = set()
        self.new: dict[str, Tensor] = {}
        self.later: list[Callable[[], None]] = []

    def field(self, field: str, name: str) -> Tensor | None:
        """Returns the leaf of a field of the state; None if there is none, or it has no dimensions."""
        leaf = self.fields.get(field, {}).get(name)
        return None if leaf is None or leaf.ndim == 0 else leaf

    def law(self, name: str) -> tuple[Tensor, Tensor, Tensor | None]:
        """Returns a weight, what it began with, and its signs."""
        start = self.field("start", name)
        assert start is not None
        return self.params[name], start, self.field("sign", name)

    def treats(self, population: Population) -> bool:
        """Returns True if a population can be changed: all of its weights are there, and trained."""
        present = all(self.field("start", name) is not None for name in population.weights())
        return present and ("rate" not in self.fields or self.field("rate", population.name) is not None)

    def beside(self, population: Population) -> Population:
        """Returns a population with its tables on the device of its weights."""
        device = self.params[population.name].device
        same = population.replaceable.device == device
        return population if same else population.mapped(lambda table: table.to(device))

    def write(self, name: str, value: Tensor, mask: Tensor) -> None:
        """Puts values where a mask says so; a connection that does not exist stays zero, and is not replaced."""
        old, exists = self.params[name], self.field("mask", name)
        mask = mask.expand(old.shape) if exists is None else mask & exists
        self.params[name] = torch.where(mask, value.to(old.dtype), old)
        before = self.replaced.get(name)
        self.replaced[name] = mask if before is None else before | mask

    def mix(self, name: str, value: Tensor, share: Tensor) -> None:
        """Moves values by a share towards others; a connection that does not exist stays as it is."""
        old, exists = self.params[name], self.field("mask", name)
        mixed = ((1.0 - share) * widened(old) + share * widened(value)).to(old.dtype)
        moves = share > 0.0 if exists is None else (share > 0.0) & exists
        self.params[name] = torch.where(moves, mixed, old)

    def result(self, state: Any) -> tuple[Tree, Any]:
        """Does what is left to do, and returns the new parameters, and the state with what was replaced."""
        for finish in self.later:
            finish()
        none = {name: torch.zeros((), dtype=torch.bool, device=leaf.device) for name, leaf in self.params.items()}
        for name in none:
            # Whatever happens in a step, so that its shape is the same in all of them.
            if name in self.of_units or self.field("start", name) is not None or self.field("rate", name) is not None:
                none[name] = torch.zeros_like(self.params[name], dtype=torch.bool)
        masks = [self.replaced.get(name, none[name]) for name in self.names]
        params = tree_unflatten(self.treedef, [self.params[name] for name in self.names])
        if state.units and NEW in state.units:
            old = {name: torch.zeros_like(units) for name, units in state.units[NEW].items()}
            state = with_kept(state, **{NEW: old | {name: self.new[name] for name in old.keys() & self.new.keys()}})
        return params, state._replace(replaced=tree_unflatten(self.treedef, masks))


def populations(units: Units | None, named: Named, feature: str) -> list[Population]:
    """Returns the populations that a feature treats.

    Raises:
        ValueError: If there is no table of units.
    """
    if not isinstance(units, Units):
        raise ValueError(
            f"units should be a table of the model's units, made by funcbio.units; found {brief(units)} for {feature}"
        )
    treated = [named.beside(one) for one in units.populations if one.edges and named.treats(one)]
    for population in treated:
        named.of_units.update(one.name for one in population.parts)
        named.of_units.update(one.weight for one in population.edges)
    return treated


def none_replaced(params: Tree, state: Any, units: Units) -> Tree:
    """Returns what has been replaced before the first call, with the shapes that it has from then on."""
    named = Named(params, params, state)
    populations(units, named, "none_replaced")
    return named.result(state)[1].replaced


def renew(
    named: Named,
    population: Population,
    chosen: Tensor,
    *,
    key: Key | None,
    stream: str,
    outgoing: str = "zero",
    means: Tensor | None = None,
    most: int | None = None,
) -> None:
    """Makes the chosen units of a population new.

    Args:
        named: The leaves; those of parameters change.
        population: The population.
        chosen: Which units, bool.
        key: The key of fresh weights.
        stream: Name of the feature.
        outgoing: One of ``OUTGOING``.
        means: Mean signal of every unit: what it brought on average is added to the biases that it fed. None adds
            nothing.
        most: How many units can be chosen at most, if that is known before: only so many are drawn.
    """
    check_option("outgoing", outgoing, OUTGOING)
    key = key_of(key, stream)
    named.new[population.name] = chosen
    if _is_idle(chosen):
        return
    for edge in population.edges:
        if outgoing != "keep":
            _release(named, edge, chosen, means, key=key, stream=stream, fresh=outgoing == "start")
    for part in population.parts:
        # Once all that leaves new units is gone, so that the order of populations does not matter.
        named.later.append(partial(_begin, named, part, chosen, key=key, stream=stream, most=most))


def recycle(
    params: Tree,
    grads: Tree,
    state: Any,
    choose: Callable[[Named, Population], Tensor],
    *,
    key: Key | None,
    units: Units | None,
    feature: str,
    every: Any,
    outgoing: str,
) -> tuple[Tree, Tree, Any]:
    """Makes the units new that a function chooses, of those that may be replaced, at every so manieth call."""
    calls, state = counted(state, feature)
    due, named = due_at(calls, every) > 0.0, Named(params, grads, state)
    for population in populations(units, named, feature):
        chosen = choose(named, population) & population.replaceable & due
        renew(named, population, chosen, key=key, stream=feature, outgoing=outgoing)
    params, state = named.result(state)
    return params, grads, state


def blend(named: Named, population: Population, share: Tensor, *, key: Key | None, stream: str) -> None:
    """Makes units new in part: incoming weights go by a share towards fresh ones, outgoing ones towards zero.

    Args:
        named: The leaves; those of parameters change, and count as replaced nowhere.
        population: The population.
        share: How far each unit goes, in [0, 1].
        key: The key of fresh weights.
        stream: Name of the feature.
    """
    key = key_of(key, stream)
    if _is_idle(share > 0.0):
        return
    for part in population.parts:
        if part.synapse is not None:
            new = drawn(*named.law(part.name), key=key, stream=f"{stream}/incoming/{part.name}")
            named.mix(part.name, new, part.spread(share, new.shape, 0.0))
    for edge in population.edges:
        old = named.params[edge.weight]
        named.mix(edge.weight, torch.zeros_like(old), edge.spread(share, old.shape, 0.0))


def key_of(key: Key | None, stream: str) -> Key:
    """Returns the key that a feature draws with; raises ValueError if there is none."""
    if key is None:
        raise ValueError(f"key should be a key made by funcbio.key, because {stream} draws random numbers; found None")
    return key


def _is_idle(chosen: Tensor) -> bool:
    """Returns True if it costs nothing to tell that no unit changes: in most steps, and then no number is drawn."""
    return not is_watched() and chosen.device.type == "cpu" and not bool(chosen.any())


def _begin(named: Named, part: Part, chosen: Tensor, *, key: Key, stream: str, most: int | None) -> None:
    """Gives the entries of new units the values of new ones."""
    old = named.params.get(part.name)
    if old is None:  # A norm that is not trained, or running statistics, which are no parameters.
        return
    mask = part.spread(chosen, old.shape)
    if part.synapse is None:
        named.write(part.name, torch.full_like(old, FIXED[part.role]), mask)
    else:
        draw = drawn
        if most is not None and most < len(old) and has_a_row_each(part, old):
            draw = partial(drawn_rows, chosen=chosen, most=most)
        named.write(part.name, draw(*named.law(part.name), key=key, stream=f"{stream}/incoming/{part.name}"), mask)


def _release(
    named: Named, edge: Edge, chosen: Tensor, means: Tensor | None, *, key: Key, stream: str, fresh: bool
) -> None:
    """Zeroes what leaves new units, or draws it anew; the bias beside it takes over what they brought on average."""
    old = named.params[edge.weight]
    mask = edge.spread(chosen, old.shape)
    value = (
        drawn(*named.law(edge.weight), key=key, stream=f"{stream}/outgoing/{edge.weight}")
        if fresh
        else torch.zeros_like(old)
    )
    bias = None if edge.bias is None else named.params.get(edge.bias)
    if means is not None and bias is not None and named.field("start", edge.bias or "") is not None:
        brought = torch.where(mask, widened(old) * edge.spread(means, old.shape, 0.0), 0.0)
        moved = row_sums(channels(brought, edge.synapse.post, edge.synapse.groups)).reshape(bias.shape)
        named.params[edge.bias] = torch.where(moved == 0.0, bias, (bias + moved).to(bias.dtype))  # pyright: ignore[reportArgumentType]
    named.write(edge.weight, value, mask)
