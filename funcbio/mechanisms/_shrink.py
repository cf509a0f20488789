"""Shrink and perturb: weights are shrunk, and noise is added."""

from collections.abc import Callable

from torch import Tensor

from funcbio._checks import NOT_NEGATIVE
from funcbio.base import BioState, Key, Number, Tree, check_option
from funcbio.engine._kernel import Draw, Kernel
from funcbio.engine._run import run_kernel
from funcbio.mechanisms._fresh import fresh, index_draw
from funcbio.rng import NORMAL

NAME = "shrink_and_perturb"


def shrink_to_fresh(weight: Tensor, start: Tensor, unit: Tensor, *, shrink: Number, perturb: Number) -> Tensor:
    """Returns a mix of weights and fresh ones."""
    return shrink * weight + perturb * fresh(start, unit)


def shrink_to_start(weight: Tensor, start: Tensor, *, shrink: Number, perturb: Number) -> Tensor:
    """Returns a mix of weights and those of the beginning."""
    return shrink * weight + perturb * start


def shrink_and_jitter(
    weight: Tensor, start: Tensor | None, noise: Tensor, *, shrink: Number, perturb: Number
) -> Tensor:
    """Returns shrunk weights with normal noise."""
    del start
    return shrink * weight + perturb * noise


def shrink_and_scale(weight: Tensor, start: Tensor | None, noise: Tensor, *, shrink: Number, perturb: Number) -> Tensor:
    """Returns shrunk weights with normal noise of the layer's own spread."""
    del start
    spread = weight.std(correction=0) if weight.numel() else weight.new_ones(())
    return shrink * weight + perturb * spread * noise


def _kernel(rule: Callable[..., Tensor], start: str, *draws: Draw, elementwise: bool) -> Kernel:
    limits = {"shrink": NOT_NEGATIVE, "perturb": NOT_NEGATIVE}
    reads, marks = ("weight", start), (start,)
    return Kernel(rule, reads, ("weight",), draws, marks=marks, limits=limits, by_leaf=True, elementwise=elementwise)


NOISES = {
    "init": _kernel(shrink_to_fresh, "start", index_draw(NAME), elementwise=False),
    "start": _kernel(shrink_to_start, "start", elementwise=True),
    "normal": _kernel(shrink_and_jitter, "start?", Draw(f"{NAME}/noise", NORMAL, "weight"), elementwise=True),
    "scaled": _kernel(shrink_and_scale, "start?", Draw(f"{NAME}/noise", NORMAL, "weight"), elementwise=False),
}


def noise_kernels(*, noise: str, **hyper: Number) -> tuple[Kernel]:
    """Returns the kernel of a kind of noise."""
    del hyper
    return (NOISES[noise],)


def shrink_and_perturb(
    params: Tree,
    grads: Tree,
    state: BioState,
    /,
    *,
    key: Key | None = None,
    shrink: Number = 0.4,
    perturb: Number = 0.1,
    noise: str = "init",
) -> tuple[Tree, Tree, BioState]:
    r"""Shrinks parameters and adds noise."""
    check_option("noise", noise, NOISES)
    return run_kernel(NOISES[noise], params, grads, state, key=key, shrink=shrink, perturb=perturb)
