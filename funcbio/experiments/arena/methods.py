"""The methods that are compared: mechanisms, the numbers of each that are searched, and what they are told."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from funcbio import Mechanism, presets
from funcbio.experiments.frame.searching import Span

LR = {"sgd": Span(-1.0, -5.0, 1.5), "adam": Span(-2.5, -6.0, 1.0)}
"""Ranges of the learning rates, as powers of ten."""

OPTIMIZERS = tuple(LR)

EVERY = 16
"""Steps between two treatments of single weights."""

EVERY_UNITS = 97
"""Steps between two resets of units by a threshold, and between two returns to a slow average.

A prime, so that it falls anywhere in tasks of 20, 50 or 100 steps: where tasks end no method is told, and so long a
period should not tell it.
"""


def number(power: float) -> float:
    """Returns the number of a power of ten, with two digits."""
    return float(f"{10.0**power:.2g}")


def below_one(power: float) -> float:
    """Returns one minus a power of ten."""
    return 1.0 - number(power)


@dataclass(frozen=True)
class Knob:
    """Describes one number of a method.

    Attributes:
        name: Its name in tables.
        span: Where it is searched, in powers of ten.
        fields: For each field of the configuration that it sets, the function of the power of ten.
    """

    name: str
    span: Span
    fields: Mapping[str, Callable[[float], float]]


def knob(name: str, field_name: str, start: float, low: float, high: float) -> Knob:
    """Makes a knob that sets one field to its value."""
    return Knob(name, Span(start, low, high), {field_name: number})


@dataclass(frozen=True)
class Method:
    """Describes one way to learn.

    Attributes:
        name: Its name in tables and figures.
        mechanisms: Its mechanisms.
        knobs: Its numbers beside the learning rate.
        fields: Fields of the configuration.
        norm: Whether the network has layer norms.
        newborn: How Adam goes on with weights that were replaced.
        kind: What it resets: "weights", "units" or "".
        coupled: Whether decay is part of the gradient, as in ``torch.optim.Adam``; only Adam makes a difference.
    """

    name: str
    mechanisms: Sequence[str | Mechanism] = ()
    knobs: Sequence[Knob] = ()
    fields: Mapping[str, Any] = field(default_factory=dict)
    norm: bool = False
    newborn: str = "zero"
    kind: str = ""
    coupled: bool = False


PLAIN, NORM_DECAY = "plain", "LayerNorm, decay"

DECAY = knob("decay", "weight_decay", -2.5, -7.0, 1.5)
PULL = knob("pull", "l2_init_strength", -2.5, -7.0, 0.5)
FRACTION = knob("fraction", "rejuvenation_fraction", -2.5, -5.0, 0.0)
STRENGTH = knob("strength", "rejuvenation_parameter_dre", 1.0, 0.0, 4.0)
RATE = knob("rate", "continual_backprop_replacement_rate", -3.5, -6.0, -1.0)
MIX = Knob("mix", Span(-3.0, -6.0, 0.0), {"shrink_and_perturb_shrink": below_one, "shrink_and_perturb_perturb": number})
QUANTILE = Knob("tail", Span(-2.0, -4.0, -0.05), {"self_normalized_resets_percentile": below_one})
MEMORY = Knob("momentum", Span(-2.5, -4.0, -0.5), {"hare_and_tortoise_momentum": below_one})

AT_TIMES = partial(Mechanism, every=EVERY)
ON_UNITS = partial(Mechanism, every=EVERY_UNITS)
REJUVENATE, SELECT = AT_TIMES("rejuvenate_weights"), {"rejuvenation_variant": "swr"}
ANY = {**SELECT, "rejuvenation_utility": "random"}
PRESET = presets.keep_plasticity(quiet=True)
WIDE = {"fuzzy_lr_min": 0.0, "fuzzy_lr_max": 10.0}
START = "L2 Init"

METHODS = (
    Method(PLAIN),
    Method("decay", knobs=[DECAY]),
    Method("coupled decay", knobs=[DECAY], coupled=True),
    Method("LayerNorm", norm=True),
    Method(NORM_DECAY, knobs=[DECAY], norm=True),
    Method(START, ["l2_init"], [PULL]),
    Method("shrink and perturb", [AT_TIMES("shrink_and_perturb")], [MIX]),
    Method("selective", [REJUVENATE], [FRACTION], SELECT, kind="weights"),
    Method("random turnover", [REJUVENATE], [FRACTION], ANY, kind="weights"),
    Method("rejuvenation", [REJUVENATE], [STRENGTH], kind="weights"),
    Method(f"rejuvenation, {START}", ["l2_init", REJUVENATE], [STRENGTH, PULL], kind="weights"),
    Method(f"selective, {START}", ["l2_init", REJUVENATE], [FRACTION, PULL], SELECT, kind="weights"),
    Method(f"random turnover, {START}", ["l2_init", REJUVENATE], [FRACTION, PULL], ANY, kind="weights"),
    Method("clipping", ["clip_weights"], [knob("kappa", "clip_weights_kappa", 0.0, -2.0, 2.0)]),
    Method("UPGD", ["upgd"], [knob("sigma", "upgd_sigma", -3.0, -7.0, 0.0)]),
    Method("FIRE", [AT_TIMES("fire", every=EVERY_UNITS)]),
    Method("hare and tortoise", ["hare_and_tortoise"], [MEMORY], {"hare_and_tortoise_every": EVERY_UNITS}),
    Method(
        "ReDo",
        [ON_UNITS("redo")],
        [knob("threshold", "redo_threshold", -1.5, -4.0, 1.5)],
        {"redo_every": 1},
        kind="units",
    ),
    Method("continual backprop", ["continual_backprop"], [RATE], kind="units"),
    Method("SNR", ["self_normalized_resets"], [QUANTILE], kind="units"),
    Method(
        "ReGraMa",
        [ON_UNITS("regrama")],
        [knob("threshold", "regrama_threshold", -1.5, -4.0, 1.5)],
        {"regrama_every": 1},
        kind="units",
    ),
    Method(
        "crystallization",
        ["crystallize", "fuzzy_learning_rates"],
        [knob("floor", "crystallization_floor", -0.5, -2.0, 0.0)],
        {"fuzzy_lr_distribution": "baseline"},
    ),
    Method(
        "fuzzy rates", ["fuzzy_learning_rates"], [knob("nu", "fuzzy_learning_rate_factor_nu", -0.5, -4.0, 0.5)], WIDE
    ),
    Method("keep_plasticity", [*PRESET], fields=PRESET.fields, kind="weights"),
    Method(f"LayerNorm, {START}", ["l2_init"], [PULL], norm=True),
    Method("LayerNorm, decay, selective", [REJUVENATE], [DECAY, FRACTION], SELECT, norm=True, kind="weights"),
    Method("LayerNorm, decay, continual backprop", ["continual_backprop"], [DECAY, RATE], norm=True, kind="units"),
)
"""All methods, plain training first."""

NEWBORN = tuple(
    replace(method, name=f"{method.name}, {newborn} newborn", newborn=newborn)
    for method in METHODS
    if method.name in ("selective", f"rejuvenation, {START}", "ReDo", "continual backprop")
    for newborn in ("mean", "exact")
)
"""Methods that replace, with other moments of the new weights; only Adam has moments."""

NAMES = tuple(method.name for method in (*METHODS, *NEWBORN))
"""Their names, in this order."""

QUICK = (PLAIN, "decay", NORM_DECAY, START, "selective", "random turnover", f"rejuvenation, {START}", "ReDo")
"""Methods of the quick arena."""


def named(name: str) -> Method:
    """Returns the method of that name."""
    return next(method for method in (*METHODS, *NEWBORN) if method.name == name)


def methods_of(optimizer: str, *, normed: bool) -> tuple[Method, ...]:
    """Returns the methods for an optimizer; a network that has norms anyway leaves out those that add them."""
    every = (*METHODS, *NEWBORN) if optimizer == "adam" else [method for method in METHODS if not method.coupled]
    return tuple(method for method in every if not (normed and method.norm))


def spans_of(method: Method, optimizer: str) -> list[Span]:
    """Returns the ranges in which a method's numbers are searched, the learning rate first."""
    return [LR[optimizer], *(knob.span for knob in method.knobs)]


def settings_of(method: Method, point: Sequence[float]) -> dict[str, float]:
    """Returns learning rate and fields of a candidate, given by its powers of ten."""
    lr, *others = point
    found = {"lr": number(lr)}
    for one, power in zip(method.knobs, others, strict=True):
        found |= {name: rule(power) for name, rule in one.fields.items()}
    return found
