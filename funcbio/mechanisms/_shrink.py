"""Shrink and perturb: weights are shrunk, and noise is added."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from funcbio._checks import NOT_NEGATIVE
from funcbio.base import BioState, Key, Number, Tree, check_option
from funcbio.engine._kernel import Draw, Kernel
from funcbio.engine._masks import finite, finite_or
from funcbio.engine._run import run_kernel
from funcbio.engine._statistics import totals
from funcbio.mechanisms._fresh import fresh, index_draw
from funcbio.rng import NORMAL
from funcbio.tensors._arithmetic import widened

NAME = "shrink_and_perturb"


def shrink_to_fresh(
    weight: Tensor, start: Tensor, sign: Tensor | None, unit: Tensor, *, shrink: Number, perturb: Number
) -> Tensor:
    """Returns a mix of weights and fresh ones."""
    return shrink * weight + perturb * fresh(start, unit, sign)


def shrink_to_start(weight: Tensor, start: Tensor, *, shrink: Number, perturb: Number) -> Tensor:
    """Returns a mix of weights and those of the beginning."""
    return shrink * weight + perturb * start


def shrink_and_jitter(weight: Tensor, noise: Tensor, *, shrink: Number, perturb: Number) -> Tensor:
    """Returns shrunk weights with normal noise."""
    return shrink * weight + perturb * noise


def spread(weight: Tensor) -> tuple[Tensor]:
    """Returns the standard deviation of a layer's finite weights."""

    def first(part: Tensor) -> tuple[Tensor, ...]:
        return finite(widened(part)), finite_or(widened(part), 0.0)

    number, center = totals(weight, first)
    number = number.clamp_min(1.0)

    def second(part: Tensor, center: Tensor) -> tuple[Tensor, ...]:
        return (finite_or(widened(part) - center, 0.0).square(),)

    (squares,) = totals(weight, second, center / number)
    return (torch.sqrt(squares / number),)


def shrink_and_scale(
    weight: Tensor,
    noise: Tensor,
    *,
    shrink: Number,
    perturb: Number,
    statistics: tuple[Tensor, ...] | None = None,
) -> Tensor:
    """Returns shrunk weights with normal noise of the layer's own spread."""
    (deviation,) = spread(weight) if statistics is None else statistics
    return shrink * weight + perturb * deviation * noise


def _kernel(rule: Callable[..., Tensor], reads: tuple[str, ...], *draws: Draw, **options: Any) -> Kernel:
    """Makes a kernel; a start marks where it acts also if only that is asked of it, so that norms are exempt."""
    limits = {"shrink": NOT_NEGATIVE, "perturb": NOT_NEGATIVE}
    return Kernel(rule, reads, ("weight",), draws, marks=("start",), limits=limits, by_leaf=True, **options)


NOISE = Draw(f"{NAME}/noise", NORMAL, "start")
NOISES = {
    "init": _kernel(shrink_to_fresh, ("weight", "start", "sign?"), index_draw(NAME), elementwise=False),
    "start": _kernel(shrink_to_start, ("weight", "start")),
    "normal": _kernel(shrink_and_jitter, ("weight",), NOISE),
    "scaled": _kernel(shrink_and_scale, ("weight",), NOISE, statistics=spread),
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
    r"""Shrinks parameters and adds noise.

    $$ w \leftarrow a \, w + p \, \epsilon, $$ where the noise $\epsilon$ is

    - "init": fresh, drawn from the values that this parameter began with, each with the same chance; so it follows the
      initial law whatever drew it (of a small bias, only as well as its few values show it, and zeros stay zeros);
    - "start": $w_0$ itself, those values in their places;
    - "normal": $N(0, 1)$;
    - "scaled": $s \, N(0, 1)$ with the standard deviation $s$ of this parameter now, before it shrinks.

    Args:
        params: Tree of parameters.
        grads: Tree of gradients, shaped like ``params``; passed on.
        state: Any state with a ``start`` tree shaped like ``params``, as ``init(..., keep=["start"])`` makes it; where
            its leaf has no dimensions, as for scales and offsets of norms, nothing changes; that is all that "normal"
            and "scaled" ask of it.
        key: A fresh key for each call; not used by "start".
        shrink: $a \ge 0$, what is left of a parameter.
        perturb: $p \ge 0$, factor on the noise; for "normal" its standard deviation, in units of the weights.
        noise: "init", "start", "normal" or "scaled".

    Returns:
        The new ``params``, and ``grads`` and ``state`` as given.

    Raises:
        ValueError: If the trees differ in structure, a tree or key that the noise needs is missing, the noise is
            unknown, a number is negative, or a parameter is sharded and the noise is "init".

    Example:
        >>> state = init(
        ...     {"w": torch.tensor([[1.0, -1.0]])}, key=key(0), keep=["shrink_and_perturb"]
        ... )
        >>> params = {"w": torch.tensor([[5.0, 10.0]])}
        >>> shrink_and_perturb(params, params, state, noise="start")[0]["w"]
        tensor([[2.1000, 3.9000]])

    References:
        Ash and Adams, On Warm-Starting Neural Network Training, Neural Information Processing Systems (2020),
        arXiv 1910.08475.
    """
    check_option("noise", noise, NOISES)
    return run_kernel(NOISES[noise], params, grads, state, key=key, shrink=shrink, perturb=perturb)
