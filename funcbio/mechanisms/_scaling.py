"""Synaptic scaling: units that are too active learn less, silent ones more."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from funcbio._checks import NOT_NEGATIVE, POSITIVE
from funcbio.base import BioState, Key, Number, Tree, clamp
from funcbio.engine._kernel import Kernel
from funcbio.engine._run import run_kernel
from funcbio.engine._statistics import mean
from funcbio.mechanisms._rates import MAXIMUM, MINIMUM, RANGE
from funcbio.tensors._arithmetic import power, product


def scale_by_activity(
    grad: Tensor,
    activity: Tensor,
    *,
    target: Number,
    gamma: Number,
    minimum: Number,
    maximum: Number,
    statistics: tuple[Tensor] | None = None,
) -> Tensor:
    """Returns the scaled gradient of one layer; ``activity`` broadcasts along the post-synaptic axis."""
    (average,) = mean_activity(activity) if statistics is None else statistics
    # A layer nobody has seen active has no target: it is left alone.
    wanted = torch.where(average > 0.0, target * average / torch.where(activity > 0.0, activity, 1.0), 1.0)
    factor = torch.where((activity > 0.0) | (average == 0.0), power(wanted, gamma), maximum)
    return product(grad, clamp(factor, minimum, maximum))


def mean_activity(activity: Tensor) -> tuple[Tensor]:
    """Returns the mean count of a layer's units."""
    return (mean(activity),)


def largest_factor(operands: Any, hyper: Mapping[str, float]) -> float:
    """Returns a bound of the factors on a gradient."""
    del operands
    return hyper["maximum"]


SCALING = Kernel(
    scale_by_activity,
    reads=("grad", "activity"),
    writes=("grad",),
    statistics=mean_activity,
    of=("activity",),
    marks=("activity",),
    limits={"target": POSITIVE, "gamma": NOT_NEGATIVE, **RANGE},
    growth=largest_factor,
)


def scale_grad(
    params: Tree,
    grads: Tree,
    state: BioState,
    /,
    *,
    key: Key | None = None,
    target: Number = 1.0,
    gamma: Number = 1.0,
    minimum: Number = MINIMUM,
    maximum: Number = MAXIMUM,
) -> tuple[Tree, Tree, BioState]:
    r"""Scales the gradients of every unit's incoming weights by how far the unit is from its target activity.

    With the activity $a_u$ of post-synaptic unit $u$, counted in forward passes, and the layer's mean $\bar a$,
    $$ g_u \leftarrow g_u \, \mathrm{clamp}\left((\tau \bar a / a_u)^\gamma, r_{min}, r_{max}\right). $$
    This is multiplicative homeostatic scaling in the spirit of the works cited, not their formula.

    Args:
        params: Tree of weights.
        grads: Tree of gradients, or of updates, shaped like ``params``.
        state: Any state with an ``activity`` tree shaped like ``params``.
        key: Unused; the rule is deterministic.
        target: $\tau > 0$, the target activity relative to the layer's mean.
        gamma: $\gamma$, the strength of the scaling; 0 turns it off.
        minimum: $r_{min}$, smallest factor.
        maximum: $r_{max}$, largest factor, and that of a unit never seen active.

    Returns:
        ``params`` and ``state`` as given, and the scaled gradients.

    Raises:
        ValueError: If the trees differ in structure, or a hyper-parameter is out of its limits.

    Example:
        >>> params, grads = {"w": torch.ones(2, 1)}, {"w": torch.ones(2, 1)}
        >>> state = BioState(rate=params, activity={"w": torch.tensor([[30], [10]])})
        >>> scale_grad(params, grads, state)[1]["w"].flatten()
        tensor([0.6667, 2.0000])

    References:
        Tetzlaff et al., Frontiers in Computational Neuroscience 5, 2011; Hofmann and Mäder,
        IEEE Transactions on Cognitive and Developmental Systems, 2021.
    """
    hyper: dict[str, Number] = {"target": target, "gamma": gamma, "minimum": minimum, "maximum": maximum}
    return run_kernel(SCALING, params, grads, state, key=key, **hyper)
