"""ReDo, recycling dormant neurons: units that hardly ever respond start anew."""

from typing import Any

from torch import Tensor

from funcbio._checks import NOT_NEGATIVE, require_within
from funcbio.anatomy._units import Population, Units
from funcbio.base import BioState, Key, Number, Tree
from funcbio.mechanisms._renew import Named, recycle
from funcbio.mechanisms._unit_fields import kept_for
from funcbio.mechanisms._unit_scores import relative

LIMITS = {"threshold": NOT_NEGATIVE}


def is_dormant(signal: Tensor, threshold: Number) -> Tensor:
    """Returns for every unit whether its signal is at most that part of its layer's mean; not if it was not seen."""
    return relative(signal) <= threshold


def redo(
    params: Tree,
    grads: Tree,
    state: BioState,
    /,
    *,
    key: Key | None = None,
    units: Units | None = None,
    threshold: Number = 0.025,
    every: Any = 1000,
    outgoing: str = "zero",
) -> tuple[Tree, Tree, BioState]:
    r"""Starts dormant units anew: those whose signal is small beside that of their layer.

    With the mean magnitude $\bar h_i$ of what a unit sends to the next layers, over examples and positions,

    $$s_i = \frac{\bar h_i}{\frac{1}{n} \sum_k \bar h_k}, \qquad \text{unit } i \text{ is dormant if } s_i \le \tau.$$

    At every $N$-th call dormant units get fresh incoming weights, drawn from those that their layer began with, a bias
    of 0, scale 1 and offset 0 in their norms; their outgoing weights become 0. Only units are replaced whose every
    outgoing channel carries them alone; see ``Population.replaceable``.

    Args:
        params: Tree of parameters.
        grads: Tree of gradients; passed on.
        state: A state with ``start``, ``calls`` and the units' ``signal``, as ``init(..., units=units, keep=["redo"])``
            makes it.
        key: Key of the fresh weights.
        units: Table of the model's units, from ``funcbio.units``.
        threshold: $\tau \ge 0$; 0 takes units that never respond.
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
        >>> state = init(params, key=key(0), synapses=synapses(net), units=table, keep=["redo"])
        >>> state.units["signal"]["0.weight"] = torch.tensor([1.0, 0.0, 2.0])
        >>> params, _, state = redo(params, params, state, key=key(1), units=table, every=1)
        >>> state.replaced["0.weight"][:, 0]
        tensor([False,  True, False])

    References:
        Sokar et al., The Dormant Neuron Phenomenon in Deep Reinforcement Learning, ICML (2023), arXiv:2302.12902.
    """
    require_within(LIMITS, {"threshold": threshold})

    def choose(named: Named, population: Population) -> Tensor:
        del named
        return is_dormant(kept_for(state, "signal", population.name), threshold)

    options = {"key": key, "units": units, "every": every, "outgoing": outgoing}
    return recycle(params, grads, state, choose, feature="redo", **options)
