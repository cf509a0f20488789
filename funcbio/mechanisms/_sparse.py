"""Sparse training: few connections exist; weak ones are pruned, and as many grow elsewhere."""

import math
from typing import Any

import torch
from torch import Tensor

from funcbio._checks import COUNT_OR_NONE, SHARE
from funcbio.base import BioState, Key, Number, Tree, check_option
from funcbio.engine._kernel import Draw, Kernel
from funcbio.engine._run import run_kernel
from funcbio.mechanisms._counted import counted
from funcbio.mechanisms._fresh import fresh, index_draw
from funcbio.mechanisms._order import highest, lowest
from funcbio.rng import UNIFORM

NAME = "prune_and_regrow"
GROWTHS = ("random", "gradient", "static")
NEWBORNS = ("zero", "start")
UPWARD = 1.0 + 2.0**-22
"""What a number of connections is multiplied by before it is cut off: rounded, 36 may be a little less than 36."""


def keep_masked(weight: Tensor, mask: Tensor) -> Tensor:
    """Returns the weights of one layer, with 0 where no connection exists."""
    return torch.where(mask > 0.0, weight, 0.0)


MASK = Kernel(keep_masked, ("weight", "mask"), ("weight",), marks=("mask",), by_leaf=True)


def apply_mask(params: Tree, grads: Tree, state: BioState, /, *, key: Key | None = None) -> tuple[Tree, Tree, BioState]:
    r"""Sets weights to zero where no connection exists.

    $$ w_i \leftarrow m_i w_i, \qquad m_i \in \{0, 1\} $$

    Apply it once to the parameters right after ``init``, and after every step of the optimizer, whose momentum and
    decay would move weights that are not there. Gradients stay as they are: those of missing connections tell
    ``prune_and_regrow`` where one is worth while.

    Args:
        params: Tree of weights.
        grads: Tree of gradients, shaped like ``params``; passed on.
        state: Any state with a ``mask`` tree, True where a connection exists; a leaf of no dimensions leaves its
            parameter alone.
        key: Not used.

    Returns:
        The new ``params``; ``grads`` and ``state`` as given. Also nan and infinity become 0 where nothing exists.

    Raises:
        ValueError: If the trees differ in structure, or the state holds no ``mask``.

    Example:
        >>> params = {"w": torch.tensor([[1.0, -2.0], [3.0, 4.0]])}
        >>> state = BioState(rate=(), mask={"w": torch.tensor([[True, False], [False, True]])})
        >>> apply_mask(params, params, state)[0]["w"]
        tensor([[1., 0.],
                [0., 4.]])

    References:
        Mocanu et al., Nature Communications 9, 2383 (2018).
    """
    return run_kernel(MASK, params, grads, state, key=key)


def pruned(weight: Tensor, active: Tensor, share: Tensor) -> Tensor:
    """Returns which connections are dropped: the weakest, and before them those that are not finite."""
    strength = torch.where(weight.isfinite(), weight.abs(), -1.0)
    return lowest(strength, torch.floor(active.sum() * share * UPWARD), active)


def regrown(active: Tensor, dropped: Tensor, score: Tensor, *, static: bool) -> tuple[Tensor, Tensor]:
    """Returns which connections exist from now on, and which of them are new: as many grow as are dropped."""
    kept = active & ~dropped
    grown = dropped if static else highest(score, dropped.sum(), ~kept)
    return kept | grown, grown if static else grown & ~active


def _kernel(grow: str, newborn: str) -> Kernel:
    reads = ["weight", "mask"] + ["grad"] * (grow == "gradient") + ["start", "sign?"] * (newborn == "start")
    draws = {} if grow == "gradient" else {"unit": Draw(f"{NAME}/unit", UNIFORM, "mask")}
    draws |= {"index": index_draw(NAME, "mask")} if newborn == "start" else {}
    names = [*(name.removesuffix("?") for name in reads), *draws]

    def prune(*tensors: Tensor | None, drop: Number, until: Any, calls: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns weights, mask, and which connections are new."""
        given: dict[str, Tensor] = dict(zip(names, tensors, strict=True))  # pyright: ignore[reportAssignmentType]
        weight, active = given["weight"], given["mask"] > 0.0
        dropped = pruned(weight, active, drop * _annealed(calls, until).to(weight.dtype))
        score = given["grad"].abs() if grow == "gradient" else given["unit"]
        mask, new = regrown(active, dropped, score, static=grow == "static")
        value = fresh(given["start"], given["index"], given["sign"]) if newborn == "start" else torch.zeros_like(weight)
        return torch.where(new, value, torch.where(mask, weight, 0.0)), mask, new

    return Kernel(
        prune,
        tuple(reads),
        ("weight", "mask", "replaced"),
        tuple(draws.values()),
        marks=("mask", "start") if newborn == "start" else ("mask",),
        limits={"drop": SHARE, "until": COUNT_OR_NONE},
        by_leaf=True,
        elementwise=False,
    )


def _annealed(calls: Tensor, until: Any) -> Tensor:
    """Returns the factor on the share that is dropped: half a cosine from 1 to 0, or always 1 if ``until`` is 0."""
    until = torch.as_tensor(until)
    passed = torch.clamp(calls.double() / torch.clamp(until, min=1), max=1.0)  # In float32, half of it is less.
    return torch.where(until > 0, 0.5 * (1.0 + torch.cos(math.pi * passed)), 1.0)


KERNELS = {(grow, newborn): _kernel(grow, newborn) for grow in GROWTHS for newborn in NEWBORNS}


def sparse_kernels(*, grow: str, newborn: str, **hyper: Number) -> tuple[Kernel]:
    """Returns the kernel of a way to grow."""
    del hyper
    return (KERNELS[grow, newborn],)


def prune_and_regrow(
    params: Tree,
    grads: Tree,
    state: BioState,
    /,
    *,
    key: Key | None = None,
    drop: Number = 0.3,
    grow: str = "random",
    newborn: str = "zero",
    until: Any = 0,
) -> tuple[Tree, Tree, BioState]:
    r"""Prunes the weakest connections of every layer, and grows exactly as many elsewhere.

    Of the $n$ connections that exist in a layer, the $k$ of smallest $|w|$ are dropped,

    $$ k = \Bigl\lfloor n \, \frac{\zeta}{2} \Bigl(1 + \cos \frac{\pi t}{T}\Bigr) \Bigr\rfloor, $$

    where $t$ counts earlier calls, up to $T$; without $T$ it is $k = \lfloor n \zeta \rfloor$. Then $k$ of those that
    are missing grow: any ("random", as SET), those of largest $|g|$ ("gradient", as RigL), or the very same ones
    ("static", which draws weak weights anew). Ties go by position, so the density of a layer never changes, not by one
    connection. Weights that are not finite are dropped first; a gradient that is not a number attracts nothing.
    One that is dropped may grow again in the same call: it then keeps its weight, and counts as no new one.

    Call it once in some hundred steps, with ``apply_mask`` after every step of the optimizer.

    Args:
        params: Tree of weights.
        grads: Tree of gradients, shaped like ``params``; passed on. For "gradient", with respect to all weights, also
            those that are held at zero; a running average of it grows as sparse momentum does.
        state: A state that ``init`` made with ``keep=["prune_and_regrow"]``: with a ``mask`` tree, a counter in
            ``calls``, and for the newborn "start" also with ``start``.
        key: A fresh key for each call; "gradient" with "zero" draws nothing.
        drop: $\zeta$, the share of connections that is dropped, in [0, 1].
        grow: "random", "gradient" or "static".
        newborn: Weights of new connections: "zero", or "start" for one of the layer's initial weights at random, with
            the Dale sign where one applies.
        until: $T$, the number of calls after which nothing is dropped; 0 keeps the share for ever.

    Returns:
        The new ``params``, ``grads`` as given, and ``state`` with ``mask``, with ``replaced``: True where a connection
        is new, and with one call more.

    Raises:
        ValueError: If the trees differ in structure, the state does not hold what is kept for it, an option is unknown,
            ``drop`` is not in [0, 1] or ``until`` no integer >= 0, or ``key`` is None where something is drawn.

    Example:
        >>> params = {"w": torch.tensor([[0.1, 2.0, 0.0], [0.0, 3.0, 0.0]])}
        >>> grads = {"w": torch.tensor([[0.0, 0.0, 5.0], [7.0, 0.0, 6.0]])}
        >>> state = BioState(
        ...     rate=(),
        ...     mask={"w": params["w"] != 0},
        ...     calls={"prune_and_regrow": torch.tensor(0)},
        ... )
        >>> params, _, state = prune_and_regrow(params, grads, state, drop=0.4, grow="gradient")
        >>> state.mask["w"]
        tensor([[False,  True, False],
                [ True,  True, False]])
        >>> params["w"]
        tensor([[0., 2., 0.],
                [0., 3., 0.]])

    References:
        SET: Mocanu et al., Nature Communications 9, 2383 (2018). RigL: Evci et al., ICML 2020, arXiv:1911.11134. Sparse
        momentum: Dettmers and Zettlemoyer, arXiv:1907.04840.
    """
    check_option("grow", grow, GROWTHS)
    check_option("newborn", newborn, NEWBORNS)
    calls, state = counted(state, NAME)
    return run_kernel(KERNELS[grow, newborn], params, grads, state, key=key, drop=drop, until=until, calls=calls)


def whole_model(config: Any) -> str | None:
    """Returns why a configuration leaves nothing to prune; None if it does."""
    if config.density < 1.0:
        return None
    return "prune_and_regrow should have connections that do not exist, to grow; found density=1.0"
