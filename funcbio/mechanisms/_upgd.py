"""Utility-based perturbed gradient descent: weights of use are protected, the others are moved by noise."""

from collections.abc import Sequence

import torch
from torch import Tensor

from funcbio._checks import NOT_NEGATIVE, SHARE
from funcbio.base import BioState, Key, Number, Tree, check_option
from funcbio.engine._kernel import Draw, Kernel
from funcbio.engine._run import run_kernel
from funcbio.rng import NORMAL

TINY = 1e-12


def track_utility(weight: Tensor, grad: Tensor, utility: Tensor, *, beta: Number) -> Tensor:
    """Returns the running average of what the loss would gain, to first order, if a weight were zero."""
    return beta * utility + (1.0 - beta) * (weight * grad)


def largest_utility(utility: Tensor) -> tuple[Tensor]:
    """Returns a layer's largest utility."""
    return (utility.amax() if utility.numel() else utility.new_full((), -torch.inf),)


def of_model(statistics: Sequence[tuple[Tensor, ...]]) -> tuple[Tensor]:
    """Returns the largest of all layers' statistics."""
    return (torch.stack([one.double() for (one,) in statistics]).amax(),)


def _kernel(*, protect: bool, local: bool) -> Kernel:
    def protected(
        weight: Tensor,
        grad: Tensor,
        utility: Tensor,
        noise: Tensor,
        *,
        sigma: Number,
        decay: Number,
        statistics: tuple[Tensor],
    ) -> Tensor:
        (top,) = statistics
        if local:
            share = utility / torch.linalg.vector_norm(utility, dim=-1, keepdim=True).clamp_min(TINY)
        else:
            share = torch.where(top > 0.0, utility / torch.where(top > 0.0, top, 1.0), 0.0)
        free = 1.0 / (1.0 + torch.exp(share))
        moved = (grad + sigma * noise) * free if protect else grad + sigma * noise * free
        return moved - decay * weight

    return Kernel(
        protected,
        ("weight", "grad", "utility"),
        ("grad",),
        (Draw("upgd/noise", NORMAL, "utility"),),
        statistics=largest_utility,
        of=("utility",),
        marks=("utility",),
        limits={"sigma": NOT_NEGATIVE, "decay": NOT_NEGATIVE},
        by_leaf=True,
        elementwise=False,
        pool=of_model,
    )


TRACK = Kernel(
    track_utility,
    ("weight", "grad", "utility"),
    ("utility",),
    marks=("utility",),
    limits={"beta": SHARE},
    by_leaf=True,
)
SCOPES = ("global", "local")
KERNELS = {(p, scope): _kernel(protect=p, local=scope == "local") for p in (False, True) for scope in SCOPES}


def upgd_kernels(*, protect: bool, scope: str, **hyper: Number) -> tuple[Kernel, Kernel]:
    """Returns the kernels, one after the other."""
    del hyper
    return TRACK, KERNELS[protect, scope]


def upgd(
    params: Tree,
    grads: Tree,
    state: BioState,
    /,
    *,
    key: Key | None = None,
    sigma: Number = 1e-3,
    beta: Number = 0.999,
    decay: Number = 0.0,
    protect: bool = True,
    scope: str = "global",
) -> tuple[Tree, Tree, BioState]:
    r"""Protects weights of use from the update, and moves the others by noise."""
    check_option("scope", scope, SCOPES)
    params, grads, state = run_kernel(TRACK, params, grads, state, beta=beta)
    return run_kernel(KERNELS[bool(protect), scope], params, grads, state, key=key, sigma=sigma, decay=decay)
