"""Checks of trees, numbers and keys, before anything is computed and without values of tensors.

So they cost nothing in vmap or a compiled graph, and the features stay pure.
"""

import inspect
import operator
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import MISSING, fields
from enum import Enum
from functools import wraps
from numbers import Integral, Real
from typing import Any, NamedTuple, TypeVar, cast

import optree
import torch
from torch import Tensor, nn

from funcbio.base import Tree, leaf_names, leaves_as, same_structure
from funcbio.base import brief as brief
from funcbio.base import is_among as is_among
from funcbio.base import kind_of as kind_of
from funcbio.base import nearest as nearest
from funcbio.base import perhaps as perhaps
from funcbio.base import shown as shown
from funcbio.tensors._kept import is_watched

FLOATING = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
"""The types that weights, gradients and rate factors may have."""

VALUES = ("params", "grads", "update")
"""Trees that have a value for every parameter; the others have leaves of no dimensions where there is no synapse."""

NOTES = ("replaced", "age", "mask")
"""Trees that hold truth values or counts for every synapse, in any type."""

BROADCAST = ("sign", "activity", "bound", "norm", "singular")
"""Trees whose leaves broadcast with the weights."""

LARGEST = 1e15
"""Largest magnitude of a hyper-parameter: products of two of them stay in the range of float32."""


class Limit(NamedTuple):
    """Limits the values of a hyper-parameter.

    Attributes:
        should: What a value should be, for messages.
        holds: Returns whether a number, or a tensor of no dimensions, is within the limit.
        whole: Whether numbers have to be integers.
    """

    should: str
    holds: Callable[[Any], Any]
    whole: bool = False


POSITIVE = Limit("a number > 0", lambda value: value > 0)
NOT_NEGATIVE = Limit("a number >= 0", lambda value: value >= 0)
FRACTION = Limit("a number in (0, 1)", lambda value: (value > 0) & (value < 1))
FRACTION_OR_ONE = Limit("a number in (0, 1]", lambda value: (value > 0) & (value <= 1))
SHARE = Limit("a number in [0, 1]", lambda value: (value >= 0) & (value <= 1))
BELOW_ONE = Limit("a number in [0, 1)", lambda value: (value >= 0) & (value < 1))
COUNT = Limit("an integer >= 1", lambda value: value >= 1, whole=True)
COUNT_OR_NONE = Limit("an integer >= 0", lambda value: value >= 0, whole=True)
INTEGER = Limit("an integer", lambda value: value == value, whole=True)


def require_like(params: Tree, /, **trees: Tree) -> None:
    """Raises ValueError if a tree differs from ``params`` in structure, or a leaf in shape, type or device.

    Kinds of dictionaries may differ: see ``funcbio.base.same_structure``.
    """
    expected, single = optree.tree_structure(params), isinstance(params, Tensor)
    if (expected.is_leaf() and not single) or params is None:
        hint = ": dict(model.named_parameters()) is one" if hasattr(params, "named_parameters") else ""
        hint = ": make a dict of it" if isinstance(params, Iterator) else hint
        found = "None" if params is None else f"{type(params).__name__}, a single leaf{hint}"
        raise ValueError(f"params should be a tree of tensors; found {found}")
    for name, tree in trees.items():
        if not same_structure(optree.tree_structure(tree), expected):
            raise ValueError(f"{name} should be a tree of the structure of params; found {_difference(tree, params)}")
    columns = {"params": optree.tree_leaves(params), **{name: leaves_as(tree, params) for name, tree in trees.items()}}
    for index, weight in enumerate(columns["params"]):
        leaves = {name: column[index] for name, column in columns.items()}
        others = [leaf for name, leaf in leaves.items() if name not in VALUES]
        marked = any(isinstance(leaf, Tensor) and leaf.ndim > 0 for leaf in others)
        synapse = marked if others else is_real(weight)
        for name, leaf in leaves.items():
            should = _misfit(name, leaf, weight, synapse=synapse)
            if should:
                raise ValueError(f"{name} should hold {should} at {leaf_names(params)[index]!r}; found {shown(leaf)}")


def require_result(name: str, result: Any, params: Tree, state: Any, *, grads: bool) -> None:
    """Raises ValueError if a feature has not returned trees like those that it was given.

    Args:
        name: Name of the feature.
        result: What it returned.
        params: The parameters that it was given.
        state: The state that it was given.
        grads: Whether the gradients that it returned are used.
    """
    if not isinstance(result, tuple) or len(result) != 3 or type(result[2]) is not type(state):
        raise ValueError(f"{name} should return (params, grads, state); found {shown(result)}")
    trees = {"params": result[0]} | ({"grads": result[1]} if grads else {})
    rate = getattr(state, "rate", ())
    fields = {} if isinstance(rate, tuple) and not rate else {"rate": result[2].rate}
    try:
        require_like(params, **trees, **fields)
    except ValueError as error:
        raise ValueError(f"{name} should return trees like those that it is given: {error}") from None


def _difference(tree: Tree, params: Tree) -> str:
    """Returns how a tree differs from ``params``: a leaf too few or too many, or else their structures."""
    names, expected = leaf_names(tree), leaf_names(params)
    if optree.tree_structure(tree).is_leaf():
        return f"{type(tree).__name__}, a single leaf"
    missing, further = sorted({*expected} - {*names}), sorted({*names} - {*expected})
    if missing or further:
        return f"no leaf {missing[0]!r}" if missing else f"a further leaf {further[0]!r}"
    return f"{optree.tree_structure(tree)} in the place of {optree.tree_structure(params)}"


def _misfit(name: str, leaf: Any, weight: Any, *, synapse: bool) -> str | None:
    """Returns a description of the leaf that the tree ``name`` should have here; None if the leaf fits."""
    if not isinstance(leaf, Tensor):
        return "a tensor"
    may_lack, broadcasts = name not in VALUES, name in BROADCAST
    if not isinstance(weight, Tensor) or (may_lack and leaf.ndim == 0):
        return None
    counts = name in ("sign", "activity")
    if synapse and name not in NOTES and not (is_real(leaf) or (counts and _counts(leaf))):
        return "real numbers" if counts else "real floating-point numbers"
    if name == "mask" and leaf.dtype != torch.bool:
        return "truth values"
    sizes = zip(leaf.shape, weight.shape, strict=False)
    fits = leaf.ndim == weight.ndim and all(one == other or (broadcasts and one == 1) for one, other in sizes)
    if fits and leaf.device == weight.device:
        return None
    return f"a tensor {'that broadcasts to' if broadcasts else 'of'} shape {tuple(weight.shape)} on {weight.device}"


def is_real(value: object) -> bool:
    """Returns True for a tensor of a type that the mechanisms work on."""
    return isinstance(value, Tensor) and value.dtype in FLOATING


def _counts(leaf: Tensor) -> bool:
    return not leaf.is_complex() and not leaf.is_floating_point() and leaf.dtype != torch.bool


def is_number(value: object) -> bool:
    """Returns True for a number that rules can take; see ``LARGEST``."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -LARGEST <= value <= LARGEST


def plain_number(value: Any) -> Any:
    """Returns a Python number in the place of one of numpy or of fractions, with which tensors may not multiply."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return value
    return int(value) if isinstance(value, Integral) else float(value)


def plain_integer(value: Any) -> Any:
    """Returns a Python integer in the place of an integer of numpy or torch; anything else as it is."""
    if isinstance(value, bool | int | torch.SymInt) or (isinstance(value, Tensor) and value.dtype == torch.bool):
        return value
    try:
        return value if getattr(value, "ndim", 0) else operator.index(value)
    except (TypeError, RuntimeError):  # Transforms and graphs hide values of tensors.
        return value


def is_listing(value: object) -> bool:
    """Returns True for several values in an order: neither a text nor a set, whose order changes from run to run."""
    return isinstance(value, Iterable) and not isinstance(value, str | set | frozenset)


def order_hint(value: object) -> str:
    """Returns, for a message, why a set is no list; "" for anything else."""
    return ": a set has no order" if isinstance(value, set | frozenset) else ""


def large_hint(value: object) -> str:
    """Returns, for a message, how large a number may be; "" if that is not what is wrong with it."""
    return (
        f", of magnitude {LARGEST:g} at most" if isinstance(value, Real) and value == value and is_large(value) else ""
    )


def require(name: str, value: object, should: str, holds: bool) -> None:
    """Raises ValueError if the check of an argument failed."""
    if not holds:
        raise ValueError(f"{name} should be {should}; found {brief(value)}")


CONTRACT = "called as (params, grads, state, *, key)"
"""How features are called, for messages."""


def is_feature(value: object, keywords: Iterable[str] = ()) -> bool:
    """Returns True if an object can be called as a feature, by its signature; one without a signature can.

    Args:
        value: The object. Classes and modules are no features.
        keywords: Further keywords that will be given, if it has them.
    """
    if not callable(value) or isinstance(value, type | nn.Module):
        return False
    if torch.compiler.is_compiling():  # A graph cannot hold signatures.
        return True
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return True
    further = {name: None for name in keywords if name in signature.parameters}
    try:
        signature.bind(None, None, None, **{**further, "key": None})
    except TypeError:
        return False
    return True


PRESETS = ("keep_plasticity",)
"""Names of the functions that make presets."""


def preset_hint(given: Any) -> str:
    """Returns, for a message, how to give a preset in the place of its name or its function; "" for anything else."""
    if isinstance(given, str):
        near = nearest(given, PRESETS)
        return f": give the preset alone, funcbio.presets.{near}()" if near else ""
    name = getattr(given, "__name__", "")
    return f": call it, {name}()" if name in PRESETS and inspect.isfunction(given) else ""


def require_module(model: object) -> None:
    """Raises TypeError if the argument ``model`` is no module."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"model should be an nn.Module; found {'None' if model is None else kind_of(model)}")


def require_path(name: str, path: object) -> None:
    """Raises TypeError if an argument is no path of a file or folder."""
    if not isinstance(path, str | bytes | os.PathLike):
        raise TypeError(f"{name} should be a path, a text or an os.PathLike; found {brief(path)}")


Call = TypeVar("Call", bound=Callable[..., Any])


def names_arguments(elsewhere: Mapping[str, str]) -> Callable[[Call], Call]:
    """Makes a function refuse an unknown keyword with the nearest argument, or the place where it belongs.

    Args:
        elsewhere: Where keywords belong that are no arguments of the function.
    """

    def named(function: Call) -> Call:
        known = [*inspect.signature(function).parameters]

        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            for name in kwargs:
                if name not in known:
                    near = nearest(name, [*known, *elsewhere])
                    should = f"an argument of {function.__name__}{perhaps(name, known)}"
                    if name in elsewhere or near in elsewhere:
                        should = elsewhere.get(name) or f"{near}, {elsewhere[near]}"
                    raise TypeError(f"{name} should be {should}; found an unknown name")
            return function(*args, **kwargs)

        return cast(Call, call)

    return named


def is_count(value: object) -> bool:
    """Returns True for an integer of 1 or more."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def require_numbers(**hyper: object) -> None:
    """Raises ValueError if a hyper-parameter is neither a number nor a tensor of no dimensions."""
    for name, value in hyper.items():
        if not ((isinstance(value, Tensor) and value.ndim == 0 and not value.is_complex()) or is_number(value)):
            should = f"a number of magnitude {LARGEST:g} at most, or a tensor of no dimensions"
            raise ValueError(f"{name} should be {should}; found {shown(value)}")


def is_within(value: object, limit: Limit) -> bool:
    """Returns True if a number is of the kind that a limit asks for, not too large for rules, and within the limit."""
    kind = isinstance(value, Integral if limit.whole else Real) and not isinstance(value, bool)
    return kind and -LARGEST <= value <= LARGEST and bool(limit.holds(value))  # pyright: ignore[reportOperatorIssue]


def _number(value: Tensor, limit: Limit) -> float:
    """Returns a tensor's number; an integer if one is asked for and the number is whole, whatever the type."""
    number = value.item()
    return int(number) if limit.whole and isinstance(number, float) and number.is_integer() else number


def is_large(number: Any) -> bool:
    """Returns True if a number is out of the range of the rules; also if it is not finite."""
    return not -LARGEST <= number <= LARGEST


def require_within(limits: Mapping[str, Limit], hyper: Mapping[str, Any]) -> None:
    """Raises ValueError if a hyper-parameter is out of its limit.

    Tensors are looked at on the CPU: not inside transforms and graphs, nor on a device for which the CPU would wait.
    """
    require_numbers(**hyper)
    for name, limit in limits.items():
        value = hyper[name]
        if isinstance(value, Tensor):
            fits = not _can_be_read(value) or is_within(_number(value, limit), limit)
        else:
            fits = is_within(value, limit)
        if not fits:
            raise ValueError(f"{name} should be {limit.should}; found {brief(value)}")
    if "minimum" in hyper and "maximum" in hyper:
        require_order("minimum", hyper["minimum"], "maximum", hyper["maximum"])


def require_order(low: str, least: Any, high: str, most: Any) -> None:
    """Raises ValueError if the first of two hyper-parameters is not less than the second, where both can be read."""
    comparable = all(_can_be_read(value) for value in (least, most) if isinstance(value, Tensor))
    # As Python's numbers: a tensor of half precision would round the other one.
    if comparable and not float(least) < float(most):
        raise ValueError(f"{low} should be less than {high}; found {least} and {most}")


def _can_be_read(value: Tensor) -> bool:
    return value.device.type == "cpu" and not is_watched()


def require_key(key: object) -> None:
    """Raises ValueError if an argument is not a key, as ``funcbio.key`` makes it."""
    if not (isinstance(key, Tensor) and key.dtype == torch.int32 and key.shape == (2,)):
        raise ValueError(f"key should be an int32 tensor of shape (2,) made by funcbio.key; found {shown(key)}")


def require_dtype(dtype: object) -> None:
    """Raises ValueError if numbers of a type cannot be drawn."""
    if not is_among(dtype, FLOATING):
        raise ValueError(f"dtype should be one of {', '.join(map(str, FLOATING))}; found {brief(dtype)}")


def unlike_default(record: Any) -> dict[str, Any]:
    """Returns the fields of a dataclass that differ from their defaults, by name."""
    changed = {}
    for item in fields(record):
        value = getattr(record, item.name)
        default = item.default if item.default_factory is MISSING else item.default_factory()
        if default is MISSING or (value is not default and value != default):
            changed[item.name] = value
    return changed


def settings(values: Mapping[str, Any]) -> str:
    """Returns values by name as a call spells them; functions go by their names, options of an Enum by their values.

    Example:
        >>> settings({"threshold": 0.5, "activation": torch.relu})
        'threshold=0.5, activation=relu'
    """
    return ", ".join(f"{name}={_spelled(value)}" for name, value in values.items())


def _spelled(value: Any) -> str:
    if isinstance(value, Enum):
        return repr(value.value)
    return getattr(value, "__name__", None) or repr(value)


def is_torchs(kind: Any) -> bool:
    """Returns True for optimizers of ``torch.optim`` itself, and their functions."""
    return f"{kind.__module__}.".startswith("torch.optim.")


def outside() -> int:
    """Returns the ``stacklevel``, for the caller, of the nearest calling line outside the library."""
    frame, level = inspect.currentframe(), 0
    while frame is not None and frame.f_globals.get("__name__", "").split(".")[0] in ("funcbio", "torch"):
        frame, level = frame.f_back, level + 1
    return level


def check_compile(compile: object) -> None:
    """Raises ValueError if ``compile`` is neither True nor False nor None."""
    if not (compile is None or isinstance(compile, bool)):
        raise ValueError(f"compile should be True, False or None; found {brief(compile)}")
