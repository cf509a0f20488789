"""L2 Init: a pull of every parameter to the value that it began with."""

import torch
from torch import Tensor

from funcbio._checks import NOT_NEGATIVE, POSITIVE
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


KERNELS = {
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
    r"""Pulls every parameter to its value at the beginning."""
    check_option("penalty", penalty, SLOPES)
    return run_kernel(KERNELS[penalty, bool(decoupled)], params, grads, state, key=key, strength=strength, delta=delta)
