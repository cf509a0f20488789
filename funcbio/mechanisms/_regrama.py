"""ReGraMa: units whose gradients are small beside those of their layer start anew."""

from typing import Any

from torch import Tensor

from funcbio._checks import NOT_NEGATIVE, require_within
from funcbio.anatomy._units import Population, Units
from funcbio.base import BioState, Key, Number, Tree
from funcbio.mechanisms._renew import Named, recycle
from funcbio.mechanisms._unit_scores import gradient_score

LIMITS = {"threshold": NOT_NEGATIVE}


def regrama(
    params: Tree,
    grads: Tree,
    state: BioState,
    /,
    *,
    key: Key | None = None,
    units: Units | None = None,
    threshold: Number = 0.01,
    every: Any = 1000,
    outgoing: str = "zero",
) -> tuple[Tree, Tree, BioState]:
    r"""Starts units anew that hardly learn: those whose gradients are small beside those of their layer.

    With the gradients $g_{ij}$ of the $m$ incoming weights of unit $i$, of $n$ units in its layer,

    $$G_i = \frac{1}{m} \sum_j |g_{ij}|, \qquad s_i = \frac{G_i}{\frac{1}{n} \sum_k G_k}, \qquad
    \text{unit } i \text{ is replaced if } s_i \le \tau.$$

    At every $N$-th call such units get fresh incoming weights, drawn from those that their layer began with, a bias
    of 0, scale 1 and offset 0 in their norms; their outgoing weights become 0. Nothing but gradients is needed: no
    signals, and nothing is kept but the start.

    The metric is defined with the gradient at a unit itself, averaged in magnitude over examples. Gradients of weights
    are sums over examples, in which those of opposite sign cancel, each weighted by its input: a unit that nothing
    reaches, or that is never active, scores 0 in both.

    Args:
        params: Tree of parameters.
        grads: Tree of gradients; passed on.
        state: A state with ``start`` and ``calls``, as ``init(..., units=units, keep=["regrama"])`` makes it.
        key: Key of the fresh weights.
        units: Table of the model's units, from ``funcbio.units``.
        threshold: $\tau \ge 0$; 0 takes units without any gradient.
        every: $N$, an integer of 1 or more: calls from one replacement to the next.
        outgoing: What becomes of outgoing weights: "zero", "keep", or "start" for fresh ones.

    Returns:
        The new ``params``, ``grads`` as given, and ``state`` with what was ``replaced`` and the new ``calls``.

    Raises:
        ValueError: If the trees differ in structure, something is not kept, or a number is out of its limits.

    Example:
        >>> net = torch.nn.Sequential(
        ...     torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1)
        ... )
        >>> params, table = dict(net.named_parameters()), units(net, torch.ones(4, 2))
        >>> state = init(
        ...     params, key=key(0), synapses=synapses(net), units=table, keep=["regrama"]
        ... )
        >>> grads = {**params, "0.weight": torch.tensor([[1.0, -1.0], [0.0, 0.0], [2.0, 0.0]])}
        >>> params, _, state = regrama(params, grads, state, key=key(1), units=table, every=1)
        >>> state.replaced["0.weight"][:, 0]
        tensor([False,  True, False])

    References:
        Liu et al., Measure gradients, not activations! Enhancing neuronal activity in deep reinforcement learning,
        NeurIPS (2025), arXiv:2505.24061; with gradients of weights as in LucMc/continual-learning.
    """
    require_within(LIMITS, {"threshold": threshold})

    def choose(named: Named, population: Population) -> Tensor:
        return gradient_score(named.grads, population) <= threshold

    options = {"key": key, "units": units, "every": every, "outgoing": outgoing}
    return recycle(params, grads, state, choose, feature="regrama", **options)
