"""What is compared: each method is a rule and one number, searched over as many values as every other's."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Method:
    """One way to learn.

    Attributes:
        name: What tables and figures call it.
        knob: Name of its one number.
        grid: The values that are tried.
        rates: Where rate factors act: "gradient", "update" or None.
        crystallizes: Whether settled and jumpy weights are dampened.
        upkeep: What is done to the weights now and then: "shrink", "rejuvenate", "turn over" or None.
        beside: Name of a method whose number, as it was found for that method, holds here too.
    """

    name: str
    knob: str
    grid: tuple[float, ...]
    rates: str | None = None
    crystallizes: bool = False
    upkeep: str | None = None
    beside: str | None = None


PLAIN = "plain"
LEARNING_RATES = {"sgd": (0.01, 0.03, 0.1, 0.3, 1.0), "adam": (0.0003, 0.001, 0.003, 0.01, 0.03)}
OPTIMIZERS = tuple(LEARNING_RATES)
BENCHMARKS = ("permuted", "shuffled")

STRENGTHS = (1.0, 3.0, 8.0, 30.0, 100.0)
START = "L2 to the start"

METHODS = (
    Method("L2", "decay", (1e-5, 1e-4, 3e-4, 1e-3, 1e-2)),
    Method(START, "pull", (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)),
    Method("shrink and perturb", "shrink", (1e-4, 3e-4, 1e-3, 1e-2, 1e-1), upkeep="shrink"),
    Method("rejuvenation", "strength", (3.0, 8.0, 30.0, 100.0, 1000.0), upkeep="rejuvenate"),
    Method(f"rejuvenation, {START}", "strength", STRENGTHS, upkeep="rejuvenate", beside=START),
    Method(f"random turnover, {START}", "strength", STRENGTHS, upkeep="turn over", beside=START),
    Method("crystallization", "floor", (0.0, 0.03, 0.1, 0.3, 0.6), rates="update", crystallizes=True),
    Method("fuzzy rates, gradient", "nu", (0.16, 0.3, 0.5, 1.0, 2.0), rates="gradient"),
    Method("fuzzy rates, update", "nu", (0.16, 0.3, 0.5, 1.0, 2.0), rates="update"),
)
"""Beside plain training, whose one number is the learning rate; all others learn at the rate found for it."""


def methods_of(optimizer: str) -> tuple[Method, ...]:
    """All methods for an optimizer, plain training first.

    A step of plain SGD is the gradient times the learning rate: where factors act makes no difference to it.
    """
    others = (method for method in METHODS if optimizer != "sgd" or method.rates != "gradient")
    return (Method(PLAIN, "lr", LEARNING_RATES[optimizer]), *others)


def method_named(optimizer: str, name: str) -> Method:
    """The method of that name."""
    return next(method for method in methods_of(optimizer) if method.name == name)
