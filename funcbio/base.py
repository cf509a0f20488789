"""The vocabulary: trees, keys, the state, and what a feature is. Imports nothing of this library."""

import difflib
import inspect
from collections import OrderedDict, defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol, TypeAlias

import optree
import torch
from torch import Tensor

Tree: TypeAlias = Any
"""A pytree of tensors: nested dicts, tuples, lists and named tuples, all that ``optree.tree_map`` maps over.

Dictionaries, ordered ones (a ``state_dict``) and those with defaults fit together if they have the same keys.
"""

Key: TypeAlias = Tensor
"""Explicit randomness: an int32 tensor of shape ``(2,)``, made by ``funcbio.key``."""

Number: TypeAlias = float | Tensor
"""A hyper-parameter: a number, or a tensor of no dimensions."""


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


class IdleWarning(UserWarning):
    """Warns of mechanisms that have no effect, and of fields of the configuration that apply to no layer.

    Example:
        >>> import warnings
        >>> net = torch.nn.Linear(3, 2)
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("ignore", category=IdleWarning)
        ...     handle = attach(torch.optim.SGD(net.parameters(), lr=0.1), net, ["crystallize"])
    """


class DaleWarning(UserWarning):
    """Warns that Dale's principle holds by weight matrix, or not for some weights.

    The first where it is not known which unit feeds which weights; the second where what a weight reads has no single
    sign, as units arrive mixed, or together with an input of the model.

    Example:
        >>> import warnings
        >>> with warnings.catch_warnings(record=True) as seen:
        ...     warnings.simplefilter("always")
        ...     net = BioConverter(apply_dales_principle=True)(torch.nn.Linear(3, 2))
        >>> [one.category.__name__ for one in seen]
        ['DaleWarning']
    """


class Feature(Protocol):
    """Describes a biological mechanism: a pure function from three trees to three trees.

    It changes no input, reads only the state fields it names and replaces them through ``_replace``;
    all its randomness comes from ``key``, and its hyper-parameters are keyword arguments, numbers or
    0-d tensors. Any function that keeps this contract is a feature; no base class or registry is needed.
    """

    def __call__(self, params: Tree, grads: Tree, state: Any, /, *, key: Key | None = None) -> tuple[Tree, Tree, Any]:
        """Returns the new ``(params, grads, state)``."""
        ...


def leaf_names(tree: Tree) -> list[str]:
    """Returns the dotted path of every leaf, in optree's order: ``{"fc1": {"weight": w}}`` gives ``["fc1.weight"]``."""
    return [".".join(map(str, path)) for path in optree.tree_paths(tree)]


MAPPINGS = (dict, OrderedDict, defaultdict)
"""Kinds of dictionaries that count as one: trees of the same keys fit together."""


def same_structure(one: optree.PyTreeSpec, other: optree.PyTreeSpec) -> bool:
    """Returns True if two trees have the same structure, but perhaps other kinds of dictionaries in it."""
    if one == other:
        return True
    sequences = one.type is other.type and one.type is not None and issubclass(one.type, list | tuple)
    if not sequences and not (one.type in MAPPINGS and other.type in MAPPINGS):
        return False
    parts, others = (dict(zip(spec.entries(), spec.children(), strict=True)) for spec in (one, other))
    return parts.keys() == others.keys() and all(same_structure(part, others[at]) for at, part in parts.items())


def leaves_as(tree: Tree, like: Tree) -> list[Any]:
    """Returns the leaves of a tree in the order of another's, which may hold other kinds of dictionaries."""
    leaves, own = optree.tree_flatten(tree)
    return leaves if own == optree.tree_structure(like) else _reordered(leaves, tree, like)


def tree_as(tree: Tree, like: Tree, leaves: list[Any]) -> Tree:
    """Returns a tree of the structure of ``tree`` with new leaves, which come in the order of those of ``like``."""
    own = optree.tree_structure(tree)
    return optree.tree_unflatten(own, leaves if own == optree.tree_structure(like) else _reordered(leaves, like, tree))


def _reordered(leaves: list[Any], tree: Tree, like: Tree) -> list[Any]:
    by_path = dict(zip(optree.tree_paths(tree), leaves, strict=True))
    return [by_path[path] for path in optree.tree_paths(like)]


MOST_NAMES = 10
"""Most names that a list in a message shows."""

SYNONYMS = {
    "learning_rate": "lr",
    "epochs": "steps",
    "num_steps": "steps",
    "max_steps": "steps",
    "iterations": "steps",
    "epoch": "steps",
    "preset": "mechanisms",
    "presets": "mechanisms",
    "batch": "batch_size",
    "bs": "batch_size",
    "learning_rates": "lr",
    "step_size": "lr",
    "criterion": "loss",
    "loss_fn": "loss",
    "network": "model",
    "dataset": "data",
    "val": "test",
    "validation": "test",
    "validation_data": "test",
    "test_data": "test",
    "hyperparameters": "grid",
    "param_grid": "grid",
    "verbose": "progress",
    "repeats": "seeds",
    "num_seeds": "seeds",
    "n_seeds": "seeds",
    "cv": "folds",
    "wd": "weight_decay",
    "l2": "weight_decay",
}
"""Names that other libraries give to what has one here."""


def listed(names: Iterable[object]) -> str:
    """Returns names with commas between: the first ten, and how many more there are.

    Example:
        >>> listed(range(12))
        '0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more'
    """
    texts = [f"{name}" for name in names]
    more = f" and {len(texts) - MOST_NAMES} more" if len(texts) > MOST_NAMES else ""
    return ", ".join(texts[:MOST_NAMES]) + more


def by_nearness(name: object, names: Iterable[str]) -> list[str]:
    """Returns names in the order in which another one may have meant them, whatever the case of its letters.

    Example:
        >>> by_nearness("Relu", ["tanh", "relu"])
        ['relu', 'tanh']
    """
    text = str(name)

    def distance(one: str) -> list[float]:
        pairs = (one.lower(), text.lower()), (one, text)
        return [SYNONYMS.get(text) != one, *(-difflib.SequenceMatcher(None, *pair).ratio() for pair in pairs)]

    return sorted(names, key=distance)


MOST_LETTERS = 200
"""Most letters of a value that a message shows."""


def kind_of(value: object) -> str:
    """Returns a value as a message names it: "a Linear", "the class Linear", or "the function relu"."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if inspect.isroutine(value):
        return f"the function {getattr(value, '__name__', 'without a name')}"
    name = type(value).__name__
    return f"{'an' if name[0] in 'AEIOaeio' else 'a'} {name}"


def shown(value: object) -> str:
    """Returns a value, or the type, shape and device of a tensor, as text for a message."""
    if not isinstance(value, Tensor):
        return brief(value)
    return f"a tensor of {value.dtype}, shape {tuple(value.shape)}, on {value.device}"


def brief(value: object) -> str:
    """Returns a value for a message, on one line: its kind, if it would print as several lines or as an address.

    Example:
        >>> brief(0.5), brief(torch.eye(9).numpy()), brief(torch.relu)
        ('0.5', 'a ndarray', 'the function relu')
    """
    text = repr(value)
    several = "\n" in text or isinstance(value, type) or inspect.isroutine(value)
    if several:
        return shown(value) if isinstance(value, Tensor) else kind_of(value)
    return text[:MOST_LETTERS]


ALIKE = 0.6
"""Share of the letters that a name has in common, in order, with one that it may be a slip of."""


def nearest(name: object, names: Iterable[str]) -> str:
    """Returns the one of some names that another name is likely to be a slip of; "" if none is.

    Example:
        >>> nearest("adamw", ["SGD", "AdamW"]), nearest("lion", ["SGD", "AdamW"])
        ('AdamW', '')
    """
    text, small = f"{name}".lower(), {each.lower(): each for each in names}
    if SYNONYMS.get(text) in small:
        return small[SYNONYMS[text]]
    near = difflib.get_close_matches(text, small, n=1, cutoff=ALIKE)
    return small[near[0]] if near else ""


def perhaps(name: object, names: Iterable[str]) -> str:
    """Returns what a name is likely to be a slip of, for a message that refuses it; "" if that is not known."""
    near = nearest(name, names)
    return f", perhaps {near}" if near else ""


def is_among(value: object, options: Iterable[Any]) -> bool:
    """Returns True if a value is one of some options; False for arrays, which compare element by element."""
    try:
        return value in list(options)
    except (ValueError, RuntimeError):
        return False


def check_option(name: str, value: object, options: Iterable[str], hint: str = "") -> None:
    """Raises ValueError if ``value`` is not among the options; the message ends with the hint, if there is one."""
    options = list(options)
    if not is_among(value, options):
        near = perhaps(value, options) if len(options) > MOST_NAMES and not hint else ""
        raise ValueError(f"{name} should be one of {listed(options)}{near}; found {brief(value)}{hint}")


def clamp(values: Tensor, low: Number, high: Number | None = None) -> Tensor:
    """Clamps to bounds, each a number or, as sweeps need, a tensor of the type of ``values``."""
    values = torch.clamp(values, min=low)  # pyright: ignore[reportCallIssue, reportArgumentType]
    return values if high is None else torch.clamp(values, max=high)  # pyright: ignore[reportCallIssue, reportArgumentType]


def at_least(number: Number, low: float) -> Number:
    """Returns the larger of a hyper-parameter and a bound."""
    return number.clamp_min(low) if isinstance(number, Tensor) else max(number, low)
