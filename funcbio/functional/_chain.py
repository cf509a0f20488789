"""Chains: features one after the other, as one feature."""

from typing import Any

from funcbio.base import Feature, Key, Tree
from funcbio.functional._fused import fused


def chain(*features: Feature, compile: bool = False) -> Feature:
    """Runs features one after the other, as one feature.

    Every feature gets the same key: it separates its draws from the others' by its own name, so leaving
    one out of a chain does not change the draws of the rest. The empty chain changes nothing.

    Args:
        *features: The features, in the order in which they act.
        compile: Whether features of the library that follow one another run as one compiled loop over fresh copies of
            what they change, with random numbers made in registers. The first call takes half a minute; one program
            then serves trees of any size and hyper-parameters of any value. The result is that of ``compile=False``,
            to rounding. Inside ``vmap``, ``grad`` and ``torch.compile``, which have to see every operation, and on
            sharded trees, ``compile`` changes nothing.

    Returns:
        The composed feature.

    Raises:
        ValueError: If ``compile`` is no bool.

    Example:
        >>> params, grads = {"w": torch.ones(2)}, {"w": torch.ones(2)}
        >>> state = BioState(rate={"w": torch.tensor([0.5, 2.0])})
        >>> twice = chain(fuzzy_learning_rates, fuzzy_learning_rates)
        >>> twice(params, grads, state)[1]["w"]
        tensor([0.2500, 4.0000])
    """
    if not isinstance(compile, bool):
        raise ValueError(f"compile should be True or False; found {compile!r}")
    parts = fused(_flat(features)) if compile else features

    def chained(params: Tree, grads: Tree, state: Any, /, *, key: Key | None = None) -> tuple[Tree, Tree, Any]:
        for part in parts:
            params, grads, state = part(params, grads, state, key=key)
        return params, grads, state

    chained.features = features  # pyright: ignore[reportFunctionMemberAccess]
    return chained


def _flat(features: tuple[Feature, ...]) -> list[Feature]:
    """The features of chains within a chain: they too may share a loop with their neighbours."""
    return [inner for one in features for inner in (_flat(one.features) if hasattr(one, "features") else [one])]  # pyright: ignore[reportAttributeAccessIssue, reportFunctionMemberAccess]
