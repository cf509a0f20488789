"""Fuzzy learning rates: every weight learns at its own pace."""

import torch
from torch import Tensor

from funcbio.base import BioState, Key, Tree
from funcbio.checks import require_like
from funcbio.kernel import Kernel, run_kernel


def scale_by_rate(grad: Tensor, rate: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Returns the gradient of one layer times its rate factors; ``out`` may be where to write it."""
    return torch.mul(grad, rate, out=out).to(grad.dtype)


FUZZY = Kernel(scale_by_rate, reads=("grad", "rate"), writes=("grad",), fills=True)


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
        >>> fuzzy_learning_rates(params, grads, BioState(rate={"w": torch.tensor([0.5, 2.0])}))[1]["w"]
        tensor([0.5000, 2.0000])

    References:
        Hofmann et al., Nature Communications 16, 5112 (2025).
    """
    del key
    require_like(params, grads=grads, rate=state.rate)
    return run_kernel(FUZZY, params, grads, state)
