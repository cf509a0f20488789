"""Utility-based perturbed gradient descent: weights of use are protected, the others are moved by noise."""

from collections.abc import Sequence

import torch
from torch import Tensor

from funcbio._checks import NOT_NEGATIVE, SHARE, require
from funcbio.base import BioState, Key, Number, Tree, check_option
from funcbio.engine._kernel import Draw, Kernel
from funcbio.engine._run import run_kernel
from funcbio.rng import NORMAL
from funcbio.tensors._arithmetic import unit, work_type


def track_utility(weight: Tensor, grad: Tensor, utility: Tensor, *, beta: Number) -> Tensor:
    """Returns the running average of what the loss would gain, to first order, if a weight were zero."""
    average = beta * utility + (1.0 - beta) * (weight * grad)
    return torch.where(average.isfinite(), average, 0.0)  # What is broken is of no use, until it is healed.


def largest_utility(utility: Tensor) -> tuple[Tensor]:
    """Returns a layer's largest utility."""
    least = utility.new_full((), -torch.inf)
    return (torch.where(utility.isfinite(), utility, least).amax() if utility.numel() else least,)


def of_model(statistics: Sequence[tuple[Tensor, ...]]) -> tuple[Tensor]:
    """Returns the largest of all layers' statistics."""
    values = [one for (one,) in statistics]
    device, kind = values[0].device, work_type(values)
    return (torch.stack([one.to(device, kind) for one in values]).amax(),)


def relative_to(utility: Tensor, top: Tensor) -> Tensor:
    """Returns utilities relative to the largest of the model.

    Its magnitude divides, so that the order stays where all are negative; where it is 0, so is the share of a utility
    of 0, and negative ones are endlessly far below it.
    """
    return utility / top.abs().clamp_min(torch.finfo(top.dtype).tiny)


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
        share = unit(utility, (-1,)) if local else relative_to(utility, *statistics)
        free = 1.0 / (1.0 + torch.exp(share))  # torch.sigmoid rounds otherwise at the end of a tensor.
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
    r"""Protects weights of use from the update, and moves the others by noise.

    Acts on the update $u$ that an optimizer is about to add to the weights, in the place of ``grads``; with plain
    gradient descent $u = -\eta g$. The utility of a weight is what the loss would gain, to first order, if it were
    zero, averaged over steps; the share of it that counts is the one of the whole model's largest:

    $$E \leftarrow \beta E + (1 - \beta)\, u w, \qquad q = \frac{1}{1 + e^{-E / |\max E|}}, \qquad
    u \leftarrow (u + \sigma \xi)(1 - q) - \delta w, \qquad \xi \sim N(0, 1).$$

    Without ``protect`` it is $u + \sigma \xi (1 - q) - \delta w$. In the scope "local", $E / \lVert E \rVert$ along the
    last axis takes the place of $E / |\max E|$. A weight of no utility moves by half of its update, the most useful one
    by 0.27 of it. Neither the learning rate nor a correction of the average's bias makes a difference: they cancel.

    Args:
        params: Tree of weights, biases too.
        grads: Tree of updates $u$, shaped like ``params``: what is to be added to them.
        state: A state with ``utility``, as ``init(..., keep=["upgd"])`` makes it.
        key: A fresh key for each call.
        sigma: $\sigma \ge 0$, standard deviation of the noise, in units of the update: the paper's times $\eta$.
        beta: $\beta$ in [0, 1], decay of the running utility at each call.
        decay: $\delta \ge 0$, share of a weight lost at each call: the paper's weight decay times $\eta$.
        protect: Whether weights of use are protected from the update too, not only from the noise.
        scope: "global" or "local".

    Returns:
        ``params`` as given, the new updates, and ``state`` with the new ``utility``.

    Raises:
        ValueError: If the trees differ in structure, ``utility`` is not kept, ``key`` is None, the scope is unknown or
            a number is out of its limits.

    Example:
        >>> params = {"w": torch.tensor([1.0, 1.0, 0.0])}
        >>> update = {"w": torch.tensor([0.4, -0.4, 0.4])}
        >>> state = BioState(rate=(), utility={"w": torch.zeros(3)})
        >>> params, update, state = upgd(params, update, state, key=key(0), sigma=0.0, beta=0.5)
        >>> update["w"], state.utility["w"]
        (tensor([ 0.1076, -0.2924,  0.2000]), tensor([ 0.2000, -0.2000,  0.0000]))

    References:
        Elsayed and Mahmood, Addressing Loss of Plasticity and Catastrophic Forgetting in Continual Learning,
        ICLR (2024), arXiv:2404.00781.
    """
    check_option("scope", scope, SCOPES)
    require("protect", protect, "True or False", isinstance(protect, bool))
    params, grads, state = run_kernel(TRACK, params, grads, state, beta=beta)
    return run_kernel(KERNELS[protect, scope], params, grads, state, key=key, sigma=sigma, decay=decay)
