"""Continual backpropagation: at every step a small share of the mature units, those of least use, starts anew."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from funcbio import rng
from funcbio._checks import BELOW_ONE, COUNT_OR_NONE, SHARE, require, require_within
from funcbio.anatomy._units import Population, Units
from funcbio.base import BioState, Key, Number, Tree, check_option
from funcbio.mechanisms._order import lowest
from funcbio.mechanisms._renew import OUTGOING, Named, key_of, populations, renew
from funcbio.mechanisms._unit_fields import kept_for, with_kept
from funcbio.mechanisms._unit_scores import incoming_magnitude, outgoing_magnitude
from funcbio.mechanisms._unit_utility import UTILITIES, Utility, advance, weight_of
from funcbio.tensors._arithmetic import number

LIMITS = {
    "replacement_rate": SHARE,
    "maturity": COUNT_OR_NONE,
    "decay": BELOW_ONE,
}


def center(mean: Tensor, running: Tensor, age: Tensor, decay: Number) -> Tensor:
    r"""Returns the mean signal of units over their life, this batch included, corrected for its start at 0.

    $$\hat f = \frac{\eta f + (1 - \eta) \bar h}{1 - \eta^{a + 1}}$$

    Args:
        mean: $\bar h$, the mean signal of each unit in this batch.
        running: $f$, their running mean before it.
        age: $a$, the number of batches in that.
        decay: $\eta$.
    """
    decay = number(decay, running.dtype, running.device)
    return advance(running, mean, decay) / weight_of(age + 1, decay)


def share_due(eligible: Tensor, due: Tensor, rate: Tensor) -> tuple[Tensor, Tensor]:
    """Returns how many units are due, from 0 up, and the part of one that is left for later calls."""
    total = due + rate * eligible.sum()
    whole = total.floor()
    return whole.long(), total - whole


def fields_needed(config: Any) -> tuple[str, ...]:
    """Returns the fields of the units' state that a configuration needs."""
    utility = UTILITIES[config.continual_backprop_utility]
    mean = ("signal_mean", "unit_mean") if config.continual_backprop_correct_bias else ()
    due = ("unit_due",) if config.continual_backprop_accumulate else ()
    return (*dict.fromkeys(("unit_age", "unit_utility", *utility.fields, *mean, *due)),)


def continual_backprop(
    params: Tree,
    grads: Tree,
    state: BioState,
    /,
    *,
    key: Key | None = None,
    units: Units | None = None,
    utility: str = "contribution",
    replacement_rate: Number = 1e-4,
    maturity: Any = 100,
    decay: Number = 0.99,
    accumulate: bool = True,
    correct_bias: bool = True,
    outgoing: str = "zero",
) -> tuple[Tree, Tree, BioState]:
    r"""Starts the mature units of least utility anew, a small share of them at every call.

    Each unit has an age $a$, in calls, and a running average $u$ of its utility $y$; with the mean magnitude
    $\bar h$ of its signal, the mean magnitudes $w^\text{out}$ and $w^\text{in}$ of its weights, and the mean distance
    $\bar d$ of its signal from its own running mean $\hat f$,

    $$a \leftarrow a + 1, \qquad u \leftarrow \eta u + (1 - \eta) y, \qquad \hat u = \frac{u}{1 - \eta^a},$$

    | ``utility`` | value $y$ |
    |---|---|
    | "contribution" | $w^\text{out} \bar h$ |
    | "zero_contribution" | $w^\text{out} \bar d$ |
    | "adaptable_contribution" | $w^\text{out} \bar d / w^\text{in}$ |
    | "feature_by_input" | $\bar d / w^\text{in}$ |
    | "weight" | $w^\text{out}$ |
    | "adaptation" | $1 / w^\text{in}$ |
    | "random" | drawn anew at every call |

    Of the $n$ replaceable units with $a > m$ in a layer, $\rho n$ are due; parts of a unit add up from call to call.
    Those of lowest $\hat u$ get fresh incoming weights, drawn from those that their layer began with, biases of 0,
    scale 1 and offset 0 in their norms, and outgoing weights of 0; their averages and ages start again. What they
    brought on average, $w \hat f$ for each outgoing weight $w$, goes into the biases that they fed.

    Args:
        params: Tree of parameters.
        grads: Tree of gradients; passed on.
        state: A state with ``start`` and the units' fields, as ``init(..., units=units, keep=["continual_backprop"])``
            makes it; signals and running averages are float32, one for each unit; for
            another utility than the default it takes ``config=BioConfig(continual_backprop_utility=...)`` too.
        key: Key of the fresh weights.
        units: Table of the model's units, from ``funcbio.units``.
        utility: One of those above.
        replacement_rate: $\rho$, the share of mature units that is replaced at a call, in [0, 1].
        maturity: $m$, an integer of 0 or more: calls for which a new unit is safe.
        decay: $\eta$ of the running averages, in [0, 1).
        accumulate: Whether parts of a unit add up; if not, the part is the chance of one more.
        correct_bias: Whether the next biases take over what a unit brought on average.
        outgoing: What becomes of outgoing weights: "zero", "keep", or "start" for fresh ones.

    Returns:
        The new ``params``, ``grads`` as given, and ``state`` with what was ``replaced`` and the new ``units``.

    Raises:
        ValueError: If the trees differ in structure, something is not kept, or a number is out of its limits.

    Example:
        >>> net = torch.nn.Sequential(
        ...     torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1)
        ... )
        >>> params, table = dict(net.named_parameters()), units(net, torch.ones(4, 2))
        >>> state = init(
        ...     params,
        ...     key=key(0),
        ...     synapses=synapses(net),
        ...     units=table,
        ...     keep=["continual_backprop"],
        ... )
        >>> state.units["signal"]["0.weight"] = torch.tensor([1.0, 0.0, 2.0])
        >>> state.units["signal_mean"]["0.weight"] = torch.tensor([1.0, 0.0, 2.0])
        >>> options = {"units": table, "replacement_rate": 0.4, "maturity": 0}
        >>> params, _, state = continual_backprop(params, params, state, key=key(1), **options)
        >>> state.replaced["0.weight"][:, 0], state.units["unit_age"]["0.weight"]
        (tensor([False,  True, False]), tensor([1, 0, 1], dtype=torch.int32))

    References:
        Dohare et al., Loss of plasticity in deep continual learning, Nature 632, 768-774 (2024), and Continual
        Backprop, arXiv:2108.06325 (2021); the utilities are those of shibhansh/loss-of-plasticity.
    """
    require_within(LIMITS, {"replacement_rate": replacement_rate, "maturity": maturity, "decay": decay})
    check_option("utility", utility, UTILITIES)
    check_option("outgoing", outgoing, OUTGOING)
    for name, flag in {"accumulate": accumulate, "correct_bias": correct_bias}.items():
        require(name, flag, "True or False", isinstance(flag, bool))
    key = key_of(key, "continual_backprop")
    options: Any = {"utility": UTILITIES[utility], "decay": decay, "accumulate": accumulate, "correct": correct_bias}
    options |= {"key": key, "rate": replacement_rate, "maturity": maturity}
    named = Named(params, grads, state)
    judged = [(one, _judge(one, named, state, **options)) for one in populations(units, named, "continual_backprop")]
    for one, (chosen, means, kept) in judged:
        state = with_kept(state, **{field: {one.name: values} for field, values in kept.items()})
        most = None if isinstance(replacement_rate, Tensor) else int(replacement_rate * one.size) + 2
        renew(named, one, chosen, key=key, stream="continual_backprop", outgoing=outgoing, means=means, most=most)
    params, state = named.result(state)
    return params, grads, state


class Judged(NamedTuple):
    """Holds which units of a population are replaced, what each brings on average, and its new fields."""

    chosen: Tensor
    means: Tensor | None
    kept: dict[str, Tensor]


def _judge(
    population: Population,
    named: Named,
    state: Any,
    *,
    key: Key,
    utility: Utility,
    rate: Number,
    maturity: Any,
    decay: Number,
    accumulate: bool,
    correct: bool,
) -> Judged:
    """Takes a batch into the averages of a population's units, and chooses those that are replaced."""
    name, age = population.name, kept_for(state, "unit_age", population.name)
    average = kept_for(state, "unit_utility", name)
    decay, rate = (number(value, torch.float32, average.device) for value in (decay, rate))
    new = _latest(population, named, state, utility)
    followed = correct or "unit_mean" in utility.fields
    mean = kept_for(state, "signal_mean", name) if followed else new
    seen = new.isfinite() & mean.isfinite()  # A unit that no forward pass has shown stands still.
    age = age + seen.to(age.dtype)
    average = torch.where(seen, advance(average, new, decay), average)
    score = average / weight_of(age, decay)
    if utility.drawn:
        score = rng.uniform(key, score.shape, dtype=score.dtype, stream=f"continual_backprop/utility/{name}")
    eligible = (age > maturity) & population.replaceable
    kept: dict[str, Tensor] = {}
    if accumulate:
        count, kept["unit_due"] = share_due(eligible, kept_for(state, "unit_due", name), rate)
    else:
        count, part = share_due(eligible, torch.zeros(1, device=age.device), rate)
        count = count + (rng.uniform(key, (1,), stream=f"continual_backprop/count/{name}") < part)
    chosen = lowest(score, count, eligible)
    kept |= {"unit_age": age.masked_fill(chosen, 0), "unit_utility": average.masked_fill(chosen, 0.0)}
    if not followed:
        return Judged(chosen, None, kept)
    running = kept_for(state, "unit_mean", name)
    running = torch.where(seen, advance(running, mean, decay), running)
    kept["unit_mean"] = running.masked_fill(chosen, 0.0)
    return Judged(chosen, running / weight_of(age, decay) if correct else None, kept)


def _latest(population: Population, named: Named, state: Any, utility: Utility) -> Tensor:
    """Returns what the last batch says about the utility of a population's units."""
    signal = None if utility.signal is None else kept_for(state, utility.signal, population.name)
    outgoing = outgoing_magnitude(named.params, population)
    return utility.of(signal, outgoing, incoming_magnitude(named.params, population))
