"""L2 Init: a pull of every parameter to the value that it began with."""

import torch
from torch import Tensor

from funcbio._checks import NOT_NEGATIVE, POSITIVE, require
from funcbio.base import BioState, Key, Number, Tree, check_option
from funcbio.engine._kernel import Kernel
from funcbio.engine._run import run_kernel


def slope_l2(distance: Tensor, delta: Tensor) -> Tensor:
    """Returns the derivative of half the square."""
    del delta
    return distance


def slope_l1(distance: Tensor, delta: Tensor) -> Tensor:
    """Returns the derivative of the magnitude."""
    del delta
    return torch.sign(distance)


def slope_huber(distance: Tensor, delta: Tensor) -> Tensor:
    """Returns the derivative of Huber's function, whose slope is at most ``delta``."""
    return torch.maximum(torch.minimum(distance, delta), -delta)


SLOPES = {"l2": slope_l2, "l1": slope_l1, "huber": slope_huber}


def _kernel(penalty: str, sign: float) -> Kernel:
    slope = SLOPES[penalty]

    def pull_to_start(weight: Tensor, grad: Tensor, start: Tensor, *, strength: Number, delta: Tensor) -> Tensor:
        return grad + sign * strength * slope(weight - start, delta)

    limits = {"strength": NOT_NEGATIVE, "delta": POSITIVE}
    return Kernel(pull_to_start, ("weight", "grad", "start"), ("grad",), marks=("start",), limits=limits, by_leaf=True)


KERNELS = {  # A gradient points away from where the weight goes, an update towards it.
    (penalty, decoupled): _kernel(penalty, -1.0 if decoupled else 1.0)
    for penalty in SLOPES
    for decoupled in (False, True)
}


def l2_kernels(*, penalty: str, decoupled: bool, **hyper: Number) -> tuple[Kernel]:
    """Returns the kernel of a penalty."""
    del hyper
    return (KERNELS[penalty, decoupled],)


def l2_init(
    params: Tree,
    grads: Tree,
    state: BioState,
    /,
    *,
    key: Key | None = None,
    strength: Number = 1e-2,
    penalty: str = "l2",
    delta: Number = 1.0,
    decoupled: bool = False,
) -> tuple[Tree, Tree, BioState]:
    r"""Pulls every parameter to the value that it began with.

    With the distance $d = w - w_0$ from the start,
    $$ g \leftarrow g + \lambda \, \phi'(d), \qquad
    \phi'(d) = \begin{cases} d & \text{l2} \\ \mathrm{sign}(d) & \text{l1} \\ \mathrm{clamp}(d, -\delta, \delta) &
    \text{huber,} \end{cases} $$
    which is the gradient of $\lambda \phi(d)$ summed over all weights; for "l2" that is $\frac{\lambda}{2} \sum d^2$.
    With ``decoupled`` the trees of gradients hold updates, $u \leftarrow u - \lambda \, \phi'(d)$: then no optimizer
    rescales the pull.

    Args:
        params: Tree of parameters.
        grads: Tree of gradients, shaped like ``params``; of updates, what is about to be added to the
            parameters, if ``decoupled``.
        state: Any state with a ``start`` tree shaped like ``params``, as ``init(..., keep=["l2_init"])`` makes it;
            where its leaf has no dimensions, as for scales and offsets of norms, nothing changes.
        key: Not used.
        strength: $\lambda \ge 0$. In the gradient it acts per unit of loss; decoupled, it is the share of the
            distance that is undone in each step, and under 1.
        penalty: "l2", "l1" or "huber".
        delta: $\delta > 0$, the distance from which "huber" pulls no stronger, in units of the weights.
        decoupled: Whether it acts on the update.

    Returns:
        ``params`` as given, the new ``grads``, and ``state`` as given.

    Raises:
        ValueError: If the trees differ in structure, the state keeps no start, the penalty is unknown or a number is
            out of its limits.

    Example:
        >>> state = init({"w": torch.zeros(1, 2)}, key=key(0), keep=["l2_init"])
        >>> params, grads = {"w": torch.tensor([[1.0, -3.0]])}, {"w": torch.zeros(1, 2)}
        >>> l2_init(params, grads, state, strength=0.1)[1]["w"]
        tensor([[ 0.1000, -0.3000]])
        >>> l2_init(params, grads, state, strength=0.1, penalty="huber")[1]["w"]
        tensor([[ 0.1000, -0.1000]])

    References:
        Kumar, Marklund and Van Roy, Maintaining Plasticity in Continual Learning via Regenerative Regularization,
        Conference on Lifelong Learning Agents (2024), arXiv 2308.11958.
    """
    check_option("penalty", penalty, SLOPES)
    require("decoupled", decoupled, "True or False", isinstance(decoupled, bool))
    return run_kernel(KERNELS[penalty, decoupled], params, grads, state, key=key, strength=strength, delta=delta)
