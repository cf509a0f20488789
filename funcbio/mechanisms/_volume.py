"""Volume-dependent plasticity: large synapses change less, and each at a slightly different, random rate."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from funcbio._checks import FRACTION, POSITIVE
from funcbio.base import BioState, Key, Number, Tree
from funcbio.engine._kernel import Draw, Kernel
from funcbio.engine._run import run_kernel
from funcbio.rng import NORMAL, REACH
from funcbio.tensors._arithmetic import product, spare


def scale_by_volume(
    grad: Tensor, weight: Tensor, noise: Tensor, *, base_lr: Number, stability: Number, variability: Number
) -> Tensor:
    """Returns the scaled gradient of one layer; ``noise`` is standard normal, all tensors have one shape."""
    # In place where nobody else has the tensor: fresh memory costs more than the arithmetic.
    magnitude = weight.abs()
    volume = torch.div(magnitude, magnitude + 1.0, out=spare(magnitude))
    mean = torch.mul(volume, -stability, out=spare(volume)).exp_()
    mean = torch.mul(mean, base_lr, out=spare(mean))
    factor = torch.mul(mean, (variability * noise).add_(1.0), out=spare(mean)).abs_()
    return product(grad, factor, fresh=True)


def largest_factor(operands: Any, hyper: Mapping[str, float]) -> float:
    """Returns a bound of the factors on a gradient."""
    del operands
    return hyper["base_lr"] * (1.0 + hyper["variability"] * REACH)


VOLUME = Kernel(
    scale_by_volume,
    reads=("grad", "weight"),
    writes=("grad",),
    draws=(Draw("volume_dependent_lr", NORMAL),),
    limits={"base_lr": FRACTION, "stability": POSITIVE, "variability": POSITIVE},
    growth=largest_factor,
)


def volume_dependent_lr(
    params: Tree,
    grads: Tree,
    state: BioState,
    /,
    *,
    key: Key | None = None,
    base_lr: Number = 0.1,
    stability: Number = 2.0,
    variability: Number = 0.2,
) -> tuple[Tree, Tree, BioState]:
    r"""Scales every gradient by a noisy factor that shrinks with the size of its weight.

    With volume $v = |w| / (|w| + 1)$ and mean factor $m = \beta e^{-\sigma v}$,
    $$ g \leftarrow g \, |N(m, (\rho m)^2)|. $$
    At the default $\beta = 0.1$ the effective learning rate is ten times smaller: raise the optimizer's.

    Args:
        params: Tree of weights.
        grads: Tree of gradients, or of updates, shaped like ``params``.
        state: Any state with a ``rate`` tree shaped like ``params``: it tells which leaves are synapses.
        key: A fresh key for each call.
        base_lr: $\beta$ in $(0, 1)$, the factor of a vanishing weight.
        stability: $\sigma > 0$, how fast the factor falls with volume.
        variability: $\rho > 0$, relative standard deviation of the factor.

    Returns:
        ``params`` and ``state`` as given, and the scaled gradients.

    Raises:
        ValueError: If the trees differ in structure, a hyper-parameter is out of its limits, or ``key`` is None.

    Example:
        >>> params, grads = {"w": torch.tensor([0.0, 9.0])}, {"w": torch.ones(2)}
        >>> state = BioState(rate={"w": torch.ones(2)})
        >>> small, large = volume_dependent_lr(
        ...     params, grads, state, key=key(0), variability=1e-4
        ... )[1]["w"]
        >>> bool(small > 6 * large)
        True

    References:
        Hofmann et al., Nature Communications 16, 5112 (2025).
    """
    hyper: dict[str, Number] = {"base_lr": base_lr, "stability": stability, "variability": variability}
    return run_kernel(VOLUME, params, grads, state, key=key, **hyper)
