"""Names of what everything is made of: trees, keys, numbers, features."""

from typing import Any, Protocol, TypeAlias

from torch import Tensor

Tree: TypeAlias = Any
"""A pytree of tensors: nested dicts, tuples, lists and named tuples, all that ``optree.tree_map`` maps over.

Dictionaries, ordered ones (a ``state_dict``) and those with defaults fit together if they have the same keys.
"""

Key: TypeAlias = Tensor
"""Explicit randomness: an int32 tensor of shape ``(2,)``, made by ``funcbio.key``."""

Number: TypeAlias = float | Tensor
"""A hyper-parameter: a number, or a tensor of no dimensions."""


class Feature(Protocol):
    """Describes a biological mechanism: a pure function from three trees to three trees.

    It changes no input, reads only the state fields it names and replaces them through ``_replace``;
    all its randomness comes from ``key``, and its hyper-parameters are keyword arguments, numbers or
    0-d tensors. Any function that keeps this contract is a feature; no base class or registry is needed.
    """

    def __call__(self, params: Tree, grads: Tree, state: Any, /, *, key: Key | None = None) -> tuple[Tree, Tree, Any]:
        """Returns the new ``(params, grads, state)``."""
        ...
