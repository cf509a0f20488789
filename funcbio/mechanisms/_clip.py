"""Weight clipping: no weight grows beyond a bound of the layer's initial size."""

import torch
from torch import Tensor

from funcbio._checks import POSITIVE
from funcbio.base import BioState, Key, Number, Tree
from funcbio.engine._kernel import Kernel
from funcbio.engine._run import run_kernel


def clip_to_bound(weight: Tensor, bound: Tensor, *, kappa: Number) -> Tensor:
    """Returns the weights of one layer, clipped to +-``kappa * bound``."""
    most = kappa * bound
    return torch.maximum(torch.minimum(weight, most), -most)


CLIP = Kernel(
    clip_to_bound, ("weight", "bound"), ("weight",), marks=("bound",), limits={"kappa": POSITIVE}, by_leaf=True
)


def clip_weights(
    params: Tree, grads: Tree, state: BioState, /, *, key: Key | None = None, kappa: Number = 2.0
) -> tuple[Tree, Tree, BioState]:
    r"""Clips every parameter to a multiple of its layer's initial size.

    With the bound $b$ of the layer, $$ w \leftarrow \mathrm{clamp}(w, -\kappa b, \kappa b). $$

    ``init`` measures $b$ once, as ``clip_weights_bound`` of the configuration says:

    - "fan_in": $b = 1/\sqrt{n}$, within which torch draws the weights and biases of Linear and convolutions, where $n$
      is the number of weights in ``weight[0]``; a bias has that of its weight. Parameters that torch draws otherwise
      (embeddings, recurrent weights, parameters of your own) are measured by "maximum";
    - "maximum": $b = \max |w_0|$;
    - "spread": $b$ is the standard deviation of $w_0$.

    A bias whose measure is 0 takes that of its weight; where that is 0 too, nothing is bounded.

    Args:
        params: Tree of parameters.
        grads: Tree of gradients, shaped like ``params``; passed on.
        state: Any state with a ``bound`` tree, as ``init(..., keep=["clip_weights"])`` makes it; where its leaf has no
            dimensions, as for scales and offsets of norms, nothing changes.
        key: Not used.
        kappa: $\kappa > 0$, in units of the bound.

    Returns:
        The new ``params``, and ``grads`` and ``state`` as given.

    Raises:
        ValueError: If the trees differ in structure, the state keeps no bound, or ``kappa`` is not > 0.

    Example:
        >>> params = {"w": torch.tensor([[0.1, 0.9, -2.0, 0.0]])}
        >>> state = init(params, key=key(0), keep=["clip_weights"])
        >>> state.bound["w"]
        tensor([[0.5000]])
        >>> clip_weights(params, params, state, kappa=1.0)[0]["w"]
        tensor([[ 0.1000,  0.5000, -0.5000,  0.0000]])

    References:
        Elsayed, Lan, Lyle and Mahmood, Weight Clipping for Deep Continual and Reinforcement Learning, Reinforcement
        Learning Conference (2024), arXiv 2407.01704.
    """
    return run_kernel(CLIP, params, grads, state, key=key, kappa=kappa)
