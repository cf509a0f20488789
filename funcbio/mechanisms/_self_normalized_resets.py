"""Self-normalized resets: a unit starts anew once it is silent for longer than it ever used to be."""

from typing import Any

import torch
from torch import Tensor

from funcbio._checks import COUNT, FRACTION, NOT_NEGATIVE, require_within
from funcbio.anatomy._units import Units
from funcbio.base import BioState, Key, Number, Tree
from funcbio.mechanisms._counted import EVERY, counted, due_at
from funcbio.mechanisms._renew import Named, populations, renew
from funcbio.mechanisms._unit_fields import STRETCHES, kept_for, with_kept
from funcbio.tensors._arithmetic import number
from funcbio.tensors._kept import kept

FIELDS = ("unit_silence", "unit_patience", "unit_histogram")
LIMITS = {
    "percentile": FRACTION,
    "patience": COUNT,
    "minimum": COUNT,
    "maximum": COUNT,
    "silent": NOT_NEGATIVE,
    **EVERY,
}


@kept(8)
def _stretches(dtype: torch.dtype, device: torch.device) -> Tensor:
    """Returns the longest stretch of every column."""
    return torch.tensor(STRETCHES, dtype=dtype, device=device)


def counted_stretches(histogram: Tensor, length: Tensor, ends: Tensor) -> Tensor:
    """Counts silent stretches that end: each in the first column that is long enough for it; those of 0 nowhere."""
    longest = _stretches(length.dtype, length.device)
    column = (length.unsqueeze(-1) > longest).sum(-1, keepdim=True).clamp_max(len(STRETCHES) - 1)
    here = torch.arange(len(STRETCHES), device=length.device) == column
    return histogram + (here & (ends & (length > 0)).unsqueeze(-1)).to(histogram.dtype)


def learned_patience(histogram: Tensor, patience: Tensor, percentile: Number) -> Tensor:
    """Returns how long each unit may be silent: a percentile of its own silent stretches.

    Where that is no shorter than the patience so far, which cuts longer stretches off, it is twice that. Without any
    stretch it stays.
    """
    longest = _stretches(patience.dtype, patience.device)
    share = number(percentile, torch.float64 if patience.device.type != "mps" else torch.float32, patience.device)
    total, up_to = histogram.sum(-1), histogram.cumsum(-1)
    enough = up_to.to(share.dtype) >= share * total.to(share.dtype).unsqueeze(-1)
    length = longest[(~enough).sum(-1)]  # The first that is enough; the last one always is.
    return torch.where(total > 0, torch.where(length <= patience, length, 2.0 * patience), patience)


def self_normalized_resets(
    params: Tree,
    grads: Tree,
    state: BioState,
    /,
    *,
    key: Key | None = None,
    units: Units | None = None,
    percentile: Number = 0.99,
    every: Any = 1000,
    patience: Any = 100,
    minimum: Any = 1,
    maximum: Any = STRETCHES[-1],
    silent: Number = 0.0,
    outgoing: str = "zero",
) -> tuple[Tree, Tree, BioState]:
    r"""Starts units anew that are silent for longer than they used to be.

    A unit is silent at a call if its signal, the mean magnitude over all examples and positions since the last call, is
    at most ``silent``. Each unit learns from its own silent stretches how long it may be silent:

    $$\text{reset unit } i \text{ once } a_i > \tau_i, \qquad
    \tau_i = \min \{ t : \text{a share} \ge p \text{ of its stretches is no longer than } t \},$$

    with $a_i$ the number of calls for which it has been silent. Every $N$ calls $\tau_i$ is learned from the stretches
    since the last time; where the percentile is above $\tau_i$, because stretches were cut off by resets, $\tau_i$
    doubles; a unit that had no silent stretch keeps its $\tau_i$.

    Units that are reset get fresh incoming weights, drawn from those that their layer began with, a bias of 0, scale 1
    and offset 0 in their norms; their outgoing weights become 0.

    Args:
        params: Tree of parameters.
        grads: Tree of gradients; passed on.
        state: A state with ``start``, ``calls`` and the units' fields, as
            ``init(..., units=units, keep=["self_normalized_resets"])`` makes it. The histogram has a row for each unit,
            int32, ``(units, 111)``: stretches of up to 15 calls one by one, longer ones within 10 %, up to 65,535.
        key: Key of the fresh weights.
        units: Table of the model's units, from ``funcbio.units``.
        percentile: $p$, in (0, 1): a unit as it always was is reset at a share of $1 - p$ of its stretches.
        every: $N$, an integer of 1 or more.
        patience: $\tau_i$ in calls before the first time that it is learned.
        minimum: Least $\tau_i$ that is learned.
        maximum: Largest $\tau_i$ that is learned.
        silent: Largest signal of a silent unit; 0 fits ReLU, other nonlinearities need more.
        outgoing: What becomes of outgoing weights: "zero", "keep", or "start" for fresh ones.

    Returns:
        The new ``params``, ``grads`` as given, and ``state`` with what was ``replaced``, and new ``calls`` and
        ``units``.

    Raises:
        ValueError: If the trees differ in structure, something is not kept, or a number is out of its limits.

    Example:
        >>> net = torch.nn.Sequential(
        ...     torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1)
        ... )
        >>> params, table = dict(net.named_parameters()), units(net, torch.ones(4, 2))
        >>> keep = ["self_normalized_resets"]
        >>> state = init(params, key=key(0), synapses=synapses(net), units=table, keep=keep)
        >>> state.units["signal"]["0.weight"] = torch.tensor([1.0, 0.0, 2.0])
        >>> for call in range(3):
        ...     _, _, state = self_normalized_resets(
        ...         params, params, state, key=key(1), units=table, patience=2
        ...     )
        >>> state.replaced["0.weight"][:, 0]
        tensor([False,  True, False])

    References:
        Farias and Jozefiak, Self-Normalized Resets for Plasticity in Continual Learning, ICLR (2025), arXiv:2410.20098.
    """
    hyper = {"percentile": percentile, "every": every, "patience": patience, "silent": silent}
    require_within(LIMITS, hyper | {"minimum": minimum, "maximum": maximum})
    calls, state = counted(state, "self_normalized_resets")
    due, named = due_at(calls, every) > 0.0, Named(params, grads, state)
    for population in populations(units, named, "self_normalized_resets"):
        name = population.name
        signal, silence, limit, histogram = (kept_for(state, field, name) for field in ("signal", *FIELDS))
        limit = torch.where(limit > 0.0, limit, number(patience, limit.dtype, limit.device))
        quiet = signal <= silent  # A unit that no forward pass has shown is neither quiet nor heard.
        silence = silence + quiet.to(silence.dtype)
        chosen = quiet & (silence > limit) & population.replaceable
        ends = chosen | (signal > silent)
        histogram = counted_stretches(histogram, silence, ends)
        bounds = [number(bound, limit.dtype, limit.device) for bound in (minimum, maximum)]
        learned = learned_patience(histogram, limit, percentile).clamp(*bounds)
        new = silence.masked_fill(ends, 0), torch.where(due, learned, limit), histogram.masked_fill(due, 0)
        state = with_kept(state, **{field: {name: values} for field, values in zip(FIELDS, new, strict=True)})
        renew(named, population, chosen, key=key, stream="self_normalized_resets", outgoing=outgoing)
    params, state = named.result(state)
    return params, grads, state
