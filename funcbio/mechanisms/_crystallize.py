"""Crystallization: weights that have settled become harder to move."""

import torch
from torch import Tensor

from funcbio._checks import FRACTION, NOT_NEGATIVE, POSITIVE
from funcbio.base import BioState, Key, Number, Tree, clamp
from funcbio.engine._kernel import Kernel
from funcbio.engine._masks import above, bounded, choose, either
from funcbio.engine._run import run_kernel
from funcbio.engine._statistics import mean


def crystallize_rate(
    rate: Tensor,
    weight: Tensor,
    grad: Tensor,
    *,
    threshold: Number,
    dampening: Number,
    floor: Number = 0.0,
    statistics: tuple[Tensor] | None = None,
) -> Tensor:
    """Returns the new rate of one layer; all have the shape of ``weight``, ``statistics`` is its mean magnitude."""
    (average,) = mean_magnitude(weight) if statistics is None else statistics
    rate, weight, grad = bounded(rate), weight.abs(), grad.abs()
    settled = above(threshold * weight, grad)
    jumpy = above(grad, average)
    return choose(either(settled, jumpy), clamp(dampening * rate, floor), rate)


def mean_magnitude(weight: Tensor) -> tuple[Tensor]:
    """Returns the mean of |w|."""
    return (mean(weight, torch.abs),)


CRYSTALLIZE = Kernel(
    crystallize_rate,
    reads=("rate", "weight", "grad"),
    writes=("rate",),
    statistics=mean_magnitude,
    limits={"threshold": POSITIVE, "dampening": FRACTION, "floor": NOT_NEGATIVE},
)


def crystallize(
    params: Tree,
    grads: Tree,
    state: BioState,
    /,
    *,
    key: Key | None = None,
    threshold: Number = 4.5e-5,
    dampening: Number = 0.6,
    floor: Number = 0.0,
) -> tuple[Tree, Tree, BioState]:
    r"""Dampens the rate of weights whose gradient is relatively tiny or very large.

    In each layer, a weight $w$ with gradient $g$ and rate $r$ gets
    $$ r \leftarrow \max(\lambda r, f) \quad \text{if } |g| < \theta |w| \text{ or } |g| > \overline{|w|}. $$

    Which gradients it sees matters. Put it first in a chain, where it sees raw gradients. After
    ``volume_dependent_lr`` and ``fuzzy_learning_rates``, as in the tutorial of release 0.0.5, a dampened weight has a
    smaller gradient and soon counts as settled again: rates fall step by step, and far faster.

    Args:
        params: Tree of weights.
        grads: Tree of gradients, shaped like ``params``.
        state: Any state with a ``rate`` tree shaped like ``params``.
        key: Unused; crystallization is deterministic.
        threshold: $\theta > 0$, the relative gradient under which a weight has settled.
        dampening: $\lambda$ in $(0, 1)$.
        floor: $f \geq 0$, the rate under which no weight is dampened. At 0, a long run stops many weights.

    Returns:
        ``params`` and ``grads`` as given, and ``state`` with its new ``rate``.

    Raises:
        ValueError: If the trees differ in structure, or a hyper-parameter is out of its limits.

    Example:
        >>> params, grads = {"w": torch.tensor([1.0, 1.0])}, {"w": torch.tensor([0.0, 0.5])}
        >>> crystallize(params, grads, BioState(rate={"w": torch.ones(2)}))[2].rate["w"]
        tensor([0.6000, 1.0000])

    References:
        Hofmann et al., Nature Communications 16, 5112 (2025).
    """
    hyper: dict[str, Number] = {"threshold": threshold, "dampening": dampening, "floor": floor}
    return run_kernel(CRYSTALLIZE, params, grads, state, key=key, **hyper)
