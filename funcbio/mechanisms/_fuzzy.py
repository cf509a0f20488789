"""Fuzzy learning rates: every weight learns at its own pace."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from funcbio.base import BioState, Key, Tree
from funcbio.engine._kernel import Kernel, apply
from funcbio.engine._run import run_kernel
from funcbio.engine._tiles import parts_of
from funcbio.tensors._arithmetic import is_surely_finite, product


def scale_by_rate(grad: Tensor, rate: Tensor) -> Tensor:
    """Returns the gradient of one layer times its rate factors."""
    return product(grad, rate)


def scale_in_place(grad: Tensor, rate: Tensor) -> None:
    """Scales a gradient in place, in parts that fit the cache: looking at both first then costs little."""
    for part, factor in parts_of(grad, rate):
        if is_surely_finite(factor) and is_surely_finite(part):  # Then no product is nan, as infinity times 0 is.
            torch.mul(part, factor, out=part)
        else:
            part.copy_(apply(FUZZY, {"grad": part, "rate": factor}, (), (), {})["grad"])


def largest_rate(operands: Mapping[str, Any], hyper: Any) -> float:
    """Returns the largest magnitude of the rate factors, a bound of the factors on a gradient."""
    del hyper
    low, high = torch.aminmax(operands["rate"])
    return max(-float(low), float(high))


FUZZY = Kernel(scale_by_rate, reads=("grad", "rate"), writes=("grad",), growth=largest_rate, in_place=scale_in_place)


def fuzzy_learning_rates(
    params: Tree, grads: Tree, state: BioState, /, *, key: Key | None = None
) -> tuple[Tree, Tree, BioState]:
    r"""Scales every gradient by the rate factor of its weight.

    $$ g \leftarrow r \, g $$

    A constant factor on the gradient cancels in optimizers that divide by a running norm of it (Adam,
    AdamW, Adagrad, nearly RMSprop). With those, give this feature the optimizer's *update* in the place
    of ``grads``.

    Args:
        params: Tree of weights.
        grads: Tree of gradients, or of updates, shaped like ``params``.
        state: Any state with a ``rate`` tree shaped like ``params``.
        key: Unused; the rule is deterministic.

    Returns:
        ``params`` and ``state`` as given, and the scaled gradients.

    Raises:
        ValueError: If the trees differ in structure.

    Example:
        >>> params, grads = {"w": torch.ones(2)}, {"w": torch.ones(2)}
        >>> state = BioState(rate={"w": torch.tensor([0.5, 2.0])})
        >>> fuzzy_learning_rates(params, grads, state)[1]["w"]
        tensor([0.5000, 2.0000])

    References:
        Hofmann et al., Nature Communications 16, 5112 (2025).
    """
    return run_kernel(FUZZY, params, grads, state, key=key)
