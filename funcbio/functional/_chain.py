"""Chains: features one after the other, as one feature."""

from collections.abc import Sequence
from typing import Any

from funcbio._checks import CONTRACT, check_compile, is_feature, is_number, is_real, nearest, preset_hint
from funcbio.base import Feature, Key, Tree, brief, listed
from funcbio.engine._layers import Step
from funcbio.engine._run import run_steps
from funcbio.engine._switch import compiles
from funcbio.functional._presets import Preset
from funcbio.mechanisms import ROWS
from funcbio.mechanisms._placed import Mechanism
from funcbio.mechanisms._row import name_of, parts_of
from funcbio.tensors._kept import is_watched
from funcbio.tensors._sharding import is_plain


def chain(*features: Feature, compile: bool | None = None) -> Feature:
    """Runs features one after the other, as one feature.

    Every feature gets the same key: it separates its draws from the others' by its own name, so leaving
    one out of a chain does not change the draws of the rest. The empty chain changes nothing.

    Args:
        *features: The features, in the order in which they act.
        compile: Whether features of the library that follow one another run as one compiled loop over fresh copies of
            what they change, with random numbers made in registers; None follows ``set_compile``, at every call. The
            first call on a machine takes half a minute; one program then serves trees of any size and
            hyper-parameters of any value. The result is that of ``compile=False``, to rounding. Inside ``vmap``,
            ``grad`` and ``torch.compile``, which have to see every operation, and on sharded trees, ``compile``
            changes nothing.

    Returns:
        The composed feature.

    Raises:
        ValueError: If a feature is no function, or ``compile`` is neither a bool nor None.

    Example:
        >>> params, grads = {"w": torch.ones(2)}, {"w": torch.ones(2)}
        >>> state = BioState(rate={"w": torch.tensor([0.5, 2.0])})
        >>> twice = chain(fuzzy_learning_rates, fuzzy_learning_rates)
        >>> twice(params, grads, state)[1]["w"]
        tensor([0.2500, 4.0000])
    """
    check_compile(compile)
    for feature in features:
        _check(feature)
    # Transforms and graphs have to see every operation: features then run one by one.
    parts = features if is_watched() else _merged(_flat(features), compile)

    def chained(params: Tree, grads: Tree, state: Any, /, *, key: Key | None = None) -> tuple[Tree, Tree, Any]:
        for part in parts:
            result = part(params, grads, state, key=key)
            if not isinstance(result, tuple | list) or len(result) != 3:
                should = "return params, grads and state"
                raise ValueError(f"{name_of(part)} should {should}; found {brief(result)}")
            params, grads, state = result
        return params, grads, state

    chained.__qualname__ = f"chain({listed(map(_title, features))})"  # It prints as what it is.
    chained.features = features  # pyright: ignore[reportFunctionMemberAccess]
    return chained


def _check(feature: object) -> None:
    """Raises ValueError if a feature cannot be called as one; the message says how to give what was meant."""
    if is_feature(feature, ["units"]):
        return
    hint = preset_hint(feature)
    name = nearest(feature, ROWS) if isinstance(feature, str) else ""
    if isinstance(feature, str):
        hint = f": give the function, funcbio.{name} or bind(model).{name}" if name else ""
    elif isinstance(feature, Mechanism | Preset):
        hint = ": attach takes those, and a chain functions"
    elif isinstance(feature, Sequence):
        hint = ": give them one by one, chain(*features)"
    raise ValueError(f"features should be functions {CONTRACT}; found {brief(feature)}{hint}")


def _merged(features: Sequence[Feature], compile: bool | None) -> list[Feature]:
    """Merges features of the library that follow one another, to run in as few passes as they allow."""
    parts: list[Feature] = []
    steps: list[Step] = []
    for feature in features:
        step = _step(feature)
        if step is None or (step.kernel.advances and any(other.kernel.advances for other in steps)):
            parts, steps = [*parts, *_part(steps, compile)], []
        if step is None:
            parts.append(feature)
        else:
            steps.append(step)
    return [*parts, *_part(steps, compile)]


def _part(steps: Sequence[Step], compile: bool | None) -> list[Feature]:
    if not steps:
        return []

    def part(params: Tree, grads: Tree, state: Any, /, *, key: Key | None = None) -> tuple[Tree, Tree, Any]:
        return run_steps(steps, params, grads, state, key=key, compiled=compiles(compile))

    return [part]


def _flat(features: tuple[Feature, ...]) -> list[Feature]:
    """Returns the features, with those of chains within the chain one by one, so that all may share a loop."""
    return [inner for one in features for inner in (_flat(one.features) if _is_chain(one) else [one])]  # pyright: ignore[reportAttributeAccessIssue, reportFunctionMemberAccess]


def _title(feature: Feature) -> str:
    """Returns the name of a feature, or what a chain within the chain prints as."""
    return feature.__qualname__ if _is_chain(feature) else name_of(feature)  # pyright: ignore[reportAttributeAccessIssue]


def _is_chain(feature: Feature) -> bool:
    """Returns True for a feature made by ``chain``, but not for a wrapper around one."""
    return getattr(feature, "__code__", None) is CHAINED


def _step(feature: Feature) -> Step | None:
    """Returns a feature as a step; None if it is not of the library, or has arguments that a step cannot take."""
    function, keywords = parts_of(feature)
    name = name_of(feature)
    row = ROWS.get(name)
    if row is None or row.feature is not function or getattr(feature, "args", ()):
        return None
    hyper = {**row.defaults, **keywords}
    if hyper.keys() != row.defaults.keys() or not all(map(_is_hyper, hyper.values())):
        return None
    try:
        return row.step(name, hyper)
    except KeyError:  # An unknown option: the feature itself raises an error that names it.
        return None


def _is_hyper(value: object) -> bool:
    return isinstance(value, str) or is_number(value) or (is_real(value) and is_plain(value) and value.ndim == 0)  # pyright: ignore[reportAttributeAccessIssue]


CHAINED = chain().__code__  # pyright: ignore[reportAttributeAccessIssue]
"""Code that all chains share."""
